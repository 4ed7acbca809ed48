"""Helpers of the tests about money: a quick sandbox, counts of answers, checks of the books."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from gateway.core.model import UsageRow
from gateway.quota.account import GATEWAY, Account
from gateway.upstream.sandbox import SandboxSettings
from tests.support.rig import UPSTREAM_KEY, Got, Rig

PRICE = 40_000
"""The price of an image in `tests.support.rig.FLAT`, in micro-dollars."""

USED_UP = (429, "insufficient_quota", "insufficient_quota")
TOO_MUCH_AT_ONCE = (429, "rate_limit_error", "rate_limit_exceeded")
AWAY = (503, "server_error", "store_unavailable")


def drawing(**settings: Any) -> SandboxSettings:
    """A sandbox that draws dots, with these settings."""
    return SandboxSettings(**{"api_key": UPSTREAM_KEY, "picture": "dot", **settings})


async def until(done: Callable[[], bool | Awaitable[bool]], seconds: float = 10) -> None:
    """Wait until a condition holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            answer = done()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)


async def until_closed(rig: Rig, team: str = "team", seconds: float = 10) -> None:
    """Wait until the team has no open holds. Raises TimeoutError."""

    async def is_closed() -> bool:
        return not (await rig.account(team)).holds

    await until(is_closed, seconds)


async def until_asked(rig: Rig, number: int) -> None:
    """Wait until `number` calls have arrived upstream. Raises TimeoutError."""
    await until(lambda: rig.sandbox.counts.asked >= number)


def tally(answers: Iterable[Got]) -> Counter[int | tuple[int, str, str]]:
    """Count answers by kind: 200, or an error's status, type and code."""
    return Counter(200 if got.status == 200 else got.error for got in answers)


async def recorded(rig: Rig, team: str) -> UsageRow:
    """The team's usage in the ledger's entries."""
    rows = await rig.gateway.store.usage.report(("team",), None, None)
    found = [row for row in rows if row.group == (team,)]
    return found[0] if found else nothing(team)


def nothing(team: str) -> UsageRow:
    """The usage of a team that has none."""
    return UsageRow(
        group=(team,),
        requests=0,
        images_bought=0,
        images_cached=0,
        images_unknown=0,
        cost=0,
        saved=0,
    )


async def gateway_account(rig: Rig) -> Account:
    """The gateway-wide account."""
    return (await rig.gateway.store.accounts.load([GATEWAY])).accounts[0][0]


def assert_spent(account: Account, images: int, cost: int) -> None:
    """Check that the account has spent this today and this month, and holds nothing."""
    assert not account.holds
    for window in (account.day, account.month):
        assert (window.images, window.cost) == (images, cost)
        assert (window.held_images, window.held_cost) == (0, 0)


async def assert_books(rig: Rig, team: str, images: int, cost: int) -> None:
    """Check that account and usage agree on these purchases, and that nothing is held."""
    assert_spent(await rig.account(team), images, cost)
    row = await recorded(rig, team)
    assert (row.images_bought, row.cost) == (images, cost)
