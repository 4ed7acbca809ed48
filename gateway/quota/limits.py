"""Which limit stands in a purchase's way, and for how long.

Images that open calls hold count as used. Money that only open calls hold may come back, so it
makes a caller wait instead of sending it away until the window ends.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from gateway.core.model import Limits
from gateway.core.periods import day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import MINUTE_BUCKETS, Account

RETRY_SECONDS = 10.0
"""The wait told where only the end of an open call frees room: nobody knows when that is."""

Scope = Literal["gateway", "team", "key"]
Owner = tuple[Scope, str, Account, Limits]
"""Whose limits they are, its name (a key's is its line), its account or part of one."""


class Shortfall(Struct, frozen=True):
    """Why a window's limit refuses, in images or micro-dollars: what is used, what open calls
    hold, and what the request asks for, at most. `ends` is when the window begins anew.
    """

    used: int
    held: int
    asked: int
    ends: float


class Refusal(Struct, frozen=True, kw_only=True):
    """One limit that refuses. Exactly one of these holds: it may pass after `wait` seconds; it
    opens again at `resets_at`; it never opens (both None: the request alone is above it).

    `shortfall` is there for images and money.
    """

    scope: Scope
    owner: str
    limit: str
    size: int
    wait: float | None = None
    resets_at: float | None = None
    shortfall: Shortfall | None = None


def first_refusal(owners: Sequence[Owner], images: int, cost: int, now: float) -> Refusal | None:
    """The refusal that decides, or None where every limit admits.

    A lasting one before a passing one, and among equals the longer: the caller is told when the
    request can really be admitted.
    """
    refusals = [
        refusal
        for scope, name, account, limits in owners
        for refusal in _refusals(scope, name, account, limits, images, cost, now)
    ]
    return max(refusals, key=_severity, default=None)


def _severity(refusal: Refusal) -> tuple[int, float]:
    if refusal.wait is not None:
        return (0, refusal.wait)
    if refusal.resets_at is not None:
        return (1, refusal.resets_at)
    return (2, 0.0)


def _refusals(
    scope: Scope, owner: str, account: Account, limits: Limits, images: int, cost: int, now: float
) -> Iterator[Refusal]:
    day, month = day_of(now), month_of(now)
    windows = (
        (account.day.roll(day), end_of_day(day), limits.images_per_day, limits.cost_per_day, "day"),
        (
            account.month.roll(month),
            end_of_month(month),
            limits.images_per_month,
            limits.cost_per_month,
            "month",
        ),
    )
    for window, ends, image_limit, cost_limit, span in windows:
        images_short = Shortfall(window.images, window.held_images, images, ends)
        if image_limit is not None and _exceeds(images_short, image_limit):
            yield Refusal(
                scope=scope,
                owner=owner,
                limit=f"images_per_{span}",
                size=image_limit,
                resets_at=None if images > image_limit else ends,
                shortfall=images_short,
            )
        money_short = Shortfall(window.cost, window.held_cost, cost, ends)
        if cost_limit is not None and _exceeds(money_short, cost_limit):
            yield Refusal(
                scope=scope,
                owner=owner,
                limit=f"cost_per_{span}_usd",
                size=cost_limit,
                **_when_money_returns(money_short, cost_limit),
                shortfall=money_short,
            )
    yield from _pace_refusals(scope, owner, account, limits, now)


def _exceeds(short: Shortfall, limit: int) -> bool:
    return short.used + short.held + short.asked > limit


def _when_money_returns(short: Shortfall, limit: int) -> dict[str, Any]:
    if short.asked > limit:
        return {}
    if short.used + short.asked > limit:
        return {"resets_at": short.ends}
    return {"wait": RETRY_SECONDS}


def _pace_refusals(
    scope: Scope, owner: str, account: Account, limits: Limits, now: float
) -> Iterator[Refusal]:
    minute, open_calls = limits.requests_per_minute, limits.concurrent_requests
    if minute is not None and (wait := minute_wait(account, minute, now)) is not None:
        yield Refusal(
            scope=scope,
            owner=owner,
            limit="requests_per_minute",
            size=minute,
            wait=wait if minute else None,
        )
    if open_calls is not None and len(account.holds) >= open_calls:
        yield Refusal(
            scope=scope,
            owner=owner,
            limit="concurrent_requests",
            size=open_calls,
            wait=RETRY_SECONDS if open_calls else None,
        )


def minute_wait(account: Account, limit: int, now: float) -> float | None:
    """Seconds until one more purchase fits into the minute, at most 60; None if it fits now."""
    buckets = account.minute_at(now)
    over = sum(count for _, count in buckets) - limit + 1
    if over <= 0:
        return None
    for second, count in buckets:
        over -= count
        if over <= 0:
            return min(60.0, second + MINUTE_BUCKETS - now)
    return 60.0
