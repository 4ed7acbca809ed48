"""Billing by tokens in a whole gateway: held by table and prompt, settled by the answer's usage."""

from pathlib import Path

from gateway.core.model import Limits
from gateway.core.money import format_usd
from gateway.upstream.sandbox import UpstreamFault
from tests.support.rig import Got, running_rig
from tests.support.steps import USED_UP

TOKENS = """
[models."gpt-image-2"]
billing = "tokens"
prices = 0.04
"""
PROMPT = "a red apple"


def used(got: Got) -> int:
    """The cost of the answer by its own usage, in micro-dollars."""
    usage = got.json["usage"]
    return int(usage["input_tokens"] * 5 + usage["output_tokens"] * 30)


async def test_the_usage_is_charged(tmp_path: Path) -> None:
    async with running_rig(tmp_path, TOKENS) as rig:
        key = await rig.key()
        got = await rig.generate(key, PROMPT, n=2)
        assert used(got) not in (0, 80_000)
        assert got.headers["x-gateway-cost-usd"] == format_usd(used(got))
        await rig.assert_books(2, used(got))
        again = await rig.generate(key, PROMPT, n=2)
        assert again.headers["x-gateway-cost-usd"] == "0"
        assert again.headers["x-gateway-saved-usd"] == format_usd(used(got))


async def test_fewer_images_are_charged_by_their_usage(tmp_path: Path) -> None:
    async with running_rig(tmp_path, TOKENS) as rig:
        rig.sandbox.fault = UpstreamFault(kind="fewer", images=3)
        got = await rig.generate(await rig.key(), PROMPT, n=4)
        assert len(got.json["data"]) == 3
        await rig.assert_books(3, used(got))


async def test_the_prompt_is_held_beside_the_image(tmp_path: Path) -> None:
    ceiling = 40_000 + 5 * len(PROMPT)
    async with running_rig(tmp_path, TOKENS) as rig:
        short = await rig.key("short", limits=Limits(cost_per_day=ceiling - 1))
        assert (await rig.generate(short, PROMPT)).error == USED_UP
        enough = await rig.key("enough", limits=Limits(cost_per_day=ceiling))
        assert (await rig.generate(enough, PROMPT)).status == 200


async def test_a_settlement_above_its_hold_is_recorded_in_full_and_counted(tmp_path: Path) -> None:
    config = TOKENS.replace("0.04", "0.001")
    async with running_rig(tmp_path, config) as rig:
        # 1,756 tokens at $30 a million, where $0.001 was held.
        got = await rig.generate(await rig.key(), PROMPT)
        assert used(got) > 30_000
        await rig.assert_books(1, used(got))
        metrics = await rig.admin("/metrics")
        assert b"gateway_settlements_above_hold_total 1.0" in metrics.body
