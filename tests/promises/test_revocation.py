"""Keys changed by another process: a running gateway follows within a second."""

import asyncio
import json
import secrets
import time
from pathlib import Path

from gateway.core.key_format import mint, parse
from tests.support.program import Program
from tests.support.rig import Got, Rig
from tests.support.steps import key_in

DISABLED = (403, "permission_error", "key_disabled")
INVALID = (401, "authentication_error", "invalid_api_key")
SECONDS = 1.0


def operator(folder: Path) -> Program:
    return Program(
        folder, STORE_URL=f"sqlite:{folder / 'gateway.db'}", KEYS_PEPPER_FILE=str(folder / "pepper")
    )


async def do(folder: Path, *arguments: str) -> str:
    code, out, err = await operator(folder).run(*arguments)
    assert code == 0, err
    return out.strip()


async def models(rig: Rig, key: str) -> Got:
    return await rig.get("/v1/models", key)


async def within(rig: Rig, key: str, wanted: int) -> Got:
    """The first answer with this status, which must come within a second."""
    deadline = time.monotonic() + SECONDS
    while True:
        got = await models(rig, key)
        if got.status == wanted:
            return got
        assert time.monotonic() < deadline, got.body
        await asyncio.sleep(0.02)


async def test_a_revoked_key_stops_within_a_second_and_for_good(rig: Rig, tmp_path: Path) -> None:
    key, other = await rig.key(), await rig.further_key("team")
    assert (await rig.generate(key)).status == 200
    await do(tmp_path, "keys", "revoke", parse(key) or "")
    assert (await within(rig, key, 401)).error == INVALID
    assert (await rig.generate(key)).error == INVALID
    assert (await rig.generate(other)).status == 200
    code, _, err = await operator(tmp_path).run("keys", "enable", parse(key) or "")
    assert code == 1
    assert "revoked" in err
    assert (await rig.generate(key)).error == INVALID


async def test_a_disabled_key_is_told_so_and_can_be_enabled(rig: Rig, tmp_path: Path) -> None:
    key = await rig.key()
    assert (await models(rig, key)).status == 200
    await do(tmp_path, "keys", "disable", f"sk-gw-{parse(key)}")
    assert (await within(rig, key, 403)).error == DISABLED
    assert (await rig.generate(key)).error == DISABLED
    await do(tmp_path, "keys", "enable", parse(key) or "")
    await within(rig, key, 200)


async def test_a_new_key_works_at_once(rig: Rig, tmp_path: Path) -> None:
    await rig.key()
    for _ in range(3):
        key = await do(tmp_path, "keys", "create", "--team", "team")
        assert (await models(rig, key)).status == 200


async def test_a_new_key_works_at_once_however_lately_the_store_was_read(
    rig: Rig, tmp_path: Path
) -> None:
    ended = asyncio.Event()

    async def guess() -> None:
        """Make the gateway read as often as it lets itself be made to."""
        while not ended.is_set():
            assert (await models(rig, mint(secrets.token_bytes)[1])).status == 401

    guessing = [asyncio.create_task(guess()) for _ in range(3)]
    for _ in range(20):
        key = await key_in(tmp_path)
        assert (await models(rig, key)).status == 200
    ended.set()
    await asyncio.gather(*guessing)


async def test_an_expired_key_stops_at_its_time(rig: Rig, tmp_path: Path) -> None:
    await rig.key()
    key = await do(tmp_path, "keys", "create", "--team", "team", "--expires", "2s")
    made = time.monotonic()
    assert (await models(rig, key)).status == 200
    await asyncio.sleep(2.1 - (time.monotonic() - made))
    assert (await models(rig, key)).error == INVALID
    listed = json.loads(await do(tmp_path, "keys", "list", "--format", "json"))
    assert {row["state"] for row in listed} == {"active", "expired"}


async def test_both_keys_work_until_the_grace_ends(rig: Rig, tmp_path: Path) -> None:
    await rig.key()
    create = ("keys", "create", "--team", "team", "--images-per-day", "3")
    old = await do(tmp_path, *create)
    assert (await rig.generate(old, None)).status == 200
    new = await do(tmp_path, "keys", "rotate", old.partition("_")[0], "--grace", "3s")
    made = time.monotonic()
    for key in (new, old):
        assert (await rig.generate(key, None)).status == 200
    for key in (new, old):
        refused = await rig.generate(key, None)
        assert refused.error[2] == "insufficient_quota"
        assert f"Key sk-gw-{parse(key)}'s images_per_day limit" in refused.json["error"]["message"]
    await asyncio.sleep(3.1 - (time.monotonic() - made))
    assert (await models(rig, old)).error == INVALID
    assert (await models(rig, new)).status == 200
    (row,) = json.loads(await do(tmp_path, "usage", "--by", "key", "--format", "json"))
    assert (row["key"], row["images_bought"]) == (f"sk-gw-{parse(old)}", 3)
    listed = json.loads(await do(tmp_path, "keys", "list", "--format", "json"))
    states = {row["id"]: (row["state"], row["last_used"] is None) for row in listed}
    assert states[f"sk-gw-{parse(old)}"] == ("expired", False)
    assert states[f"sk-gw-{parse(new)}"] == ("active", False)


async def test_the_new_key_and_the_old_one_are_revoked_each_by_itself(
    rig: Rig, tmp_path: Path
) -> None:
    old = await rig.key()
    new = await do(tmp_path, "keys", "rotate", parse(old) or "")
    await do(tmp_path, "keys", "revoke", parse(old) or "")
    assert (await within(rig, old, 401)).error == INVALID
    assert (await models(rig, new)).status == 200


async def test_a_teams_new_policy_and_limits_are_followed(rig: Rig, tmp_path: Path) -> None:
    key = await rig.key()
    assert (await rig.generate(key, None)).status == 200
    teams = tmp_path / "teams.toml"
    teams.write_text("[teams.team]\nmax_n = 1\n[teams.team.limits]\nimages_per_day = 1\n")
    await do(tmp_path, "teams", "apply", str(teams))
    await asyncio.sleep(SECONDS / 2)
    assert (await rig.generate(key, None, n=2)).error[2] == "n_not_allowed"
    assert (await rig.generate(key, None)).error[2] == "insufficient_quota"


async def test_a_flight_under_way_is_delivered_to_a_key_that_is_revoked_meanwhile(
    rig: Rig, tmp_path: Path
) -> None:
    rig.sandbox.settings.latency = 1.5
    key = await rig.key()
    buying = asyncio.create_task(rig.generate(key))
    await asyncio.sleep(0.1)
    await do(tmp_path, "keys", "revoke", parse(key) or "")
    assert (await buying).status == 200
    assert (await rig.usage()).images_bought == 1
