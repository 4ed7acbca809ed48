"""A store and a cache as large as the gateway has to carry, filled in seconds.

An import and the request history's own batches fill the store. On each day some teams buy; on the
last days all keys buy, hit and are refused, in many kinds of request.
"""

from collections.abc import Iterator
from itertools import product

import msgspec
from msgspec import Struct

from gateway.cache.memory import MemoryCache
from gateway.config.settings import StoreSettings
from gateway.core.model import (
    AnsweredRequest,
    AuditEntry,
    Bought,
    Claim,
    Entry,
    EntryOutcome,
    Key,
    Limits,
    Team,
)
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, PeriodUsage, day_of, month_of
from gateway.quota.account import Account, Counters, team_account
from gateway.quota.purchase import Purchase
from gateway.reporting.alerts.delivery import Delivery
from gateway.reporting.alerts.rules import Alert
from gateway.reporting.request_lines import (
    ErrorKind,
    HistoryBatch,
    HourLatency,
    RequestLine,
    TeamErrors,
    make_place,
)
from gateway.server.startup import build_store
from gateway.stores.archive_format import (
    AccountRecord,
    ArchiveRecord,
    AuditRecord,
    ClaimRecord,
    ClockRecord,
    EntryRecord,
    KeyRecord,
    PurchaseRecord,
    TeamRecord,
    UseRecord,
)

PRICE = 53_000
"""Micro-dollars for an image."""

MODEL = "gpt-image-2"
SIZES = ("1024x1024", "1536x1024", "other")
QUALITIES = ("high", "low")
OUTCOMES: tuple[EntryOutcome, ...] = ("bought", "cached", "refused")
WRITER = "0" * 8


USED_BY = 20
"""On other days than the busy ones, one of so many teams uses the gateway."""


class Size(Struct, frozen=True, kw_only=True):
    """How much there is. `busy` days have usage of every key in every kind of request.

    `latency_hours` and `error_hours` go back from now. `lines` are recent requests, `unknown` are
    purchases that were charged as unknown.
    """

    teams: int = 1_000
    keys: int = 3
    images: int = 10_000_000
    days: int = 400
    busy: int = 2
    answers: int = 150_000
    changes: int = 10_000
    alerts: int = 10_000
    lines: int = 10_000
    unknown: int = 10_000
    error_hours: int = 30
    latency_hours: int = 1_500


async def fill_store(settings: StoreSettings, size: Size, now: float) -> None:
    """Fill an empty store with teams, budgets, usage, changes, alerts and recent requests."""
    async with build_store(settings) as store:
        await store.archive.restore(_records(size, now))
        for batch in _batches(size, now):
            await store.history.write(batch)
        while await store.usage.tidy(now, None):
            pass


async def fill_cache(cache: MemoryCache, size: Size, now: float) -> None:
    """Fill the memory with answers, every second of them with some hits."""
    for number in range(size.answers):
        team = team_name(number % size.teams)
        about = AnsweredRequest(
            scope=team, team=team, model=MODEL, size=SIZES[0], quality=QUALITIES[0]
        )
        body = b'{"created":1,"data":[{"url":"https://example.com/%d"}]}' % number
        key = f"{number:064x}"
        bought = Bought(body=body, images=1, cost=PRICE, at=now, about=about)
        await cache.set(key, bought, ttl=86_400)
        if number % 2:
            for _ in range(1 + number % 5):
                cache.find(key)


def team_name(number: int) -> str:
    """The name of a team."""
    return f"team-{number:04}"


def key_id(team: int, number: int) -> str:
    """The id of a team's key."""
    return f"{team:08x}{number:04x}"


_LIMITS = Limits(
    images_per_day=1_000,
    images_per_month=20_000,
    cost_per_day=10**9,
    cost_per_month=10**10,
    requests_per_minute=600,
    concurrent_requests=50,
)


def _records(size: Size, now: float) -> Iterator[ArchiveRecord]:
    teams = range(size.teams)
    yield ClockRecord(now)
    for team in teams:
        yield TeamRecord(Team(name=team_name(team), limits=_LIMITS))
    keys = list(product(teams, range(size.keys)))
    for team, number in keys:
        yield KeyRecord(
            Key(
                id=key_id(team, number),
                team=team_name(team),
                name=f"Key {number} of {team_name(team)}",
                digest=b"%032d" % (team * 100 + number),
                created=now - DAY_SECONDS,
                limits=_LIMITS,
            )
        )
    for team, number in keys:
        yield UseRecord(key_id(team, number), now)
    spent = Counters(
        day=PeriodUsage(day_of(now), 500, 500 * PRICE),
        month=PeriodUsage(month_of(now), 9_000, 9_000 * PRICE),
        minute=tuple((int(now) - 50 + second, 1) for second in range(50)),
    )
    for team in teams:
        lines = {key_id(team, number): spent for number in range(size.keys)}
        account = Account(spent.day, spent.month, spent.minute, keys=lines)
        yield AccountRecord(team_account(team_name(team)), 1, account)
    public = {"team": team_name(0), "max_n": 4, "limits": {"images_per_day": 200}}
    for number in range(size.changes):
        change = AuditEntry(
            at=now - size.changes + number,
            who="admin token env",
            action="team.change",
            team=team_name(number % size.teams),
            before=public,
            after=public,
        )
        yield AuditRecord(number + 1, change)
    for number in range(size.alerts):
        yield ClaimRecord(_claim(number, size, now))
    yield from map(EntryRecord, _entries(size, now))
    for number in range(size.unknown):
        yield PurchaseRecord(_purchase(number, size, now))


def _claim(number: int, size: Size, now: float) -> Claim:
    alert = Alert(
        event="budget_reached",
        mark=(team_name(number % size.teams), "images_per_day", number),
        at=now - number,
        ends=now + DAY_SECONDS,
        text="A team has used 900 of 1000 images for today (90 %). Resets 30 Nov, 00:00 UTC.",
        team=team_name(number % size.teams),
        limit="images_per_day",
        percent=80,
        used=900,
        limit_value=1_000,
    )
    note = Delivery(
        webhook="ops", id=f"msg_{number:032x}", alert=alert, state="sent", attempts=1, last_at=now
    )
    return Claim(
        name=note.id,
        owner="gateway",
        ends=now + DAY_SECONDS + number,
        done=True,
        note=msgspec.json.encode(note),
    )


def _entries(size: Size, now: float) -> Iterator[Entry]:
    """Usage whose images add up to about the given number."""
    today = day_of(now)
    kinds = list(product(SIZES, QUALITIES, OUTCOMES))
    with_images = len(kinds) * 2 // len(OUTCOMES)
    images = size.images // (
        size.busy * size.teams * size.keys * with_images
        + (size.days - size.busy) * size.teams // USED_BY
    )
    for day in range(today - size.days + 1, today + 1):
        start = float(day * DAY_SECONDS)
        if day <= today - size.busy:
            for team in range(day % USED_BY, size.teams, USED_BY):
                yield _entry(f"{day}-{team}", start, team, 0, (SIZES[0], "high", "bought"), images)
            continue
        for team, number in product(range(size.teams), range(size.keys)):
            at = start if day == today else start + (team + number) % 24 * HOUR_SECONDS
            for place, kind in enumerate(kinds):
                yield _entry(f"{day}-{team}-{number}-{place}", at, team, number, kind, images)


def _entry(
    id: str, at: float, team: int, number: int, kind: tuple[str, str, EntryOutcome], images: int
) -> Entry:
    size, quality, outcome = kind
    bought, cached = images * (outcome == "bought"), images * (outcome == "cached")
    return Entry(
        id=id,
        at=at,
        team=team_name(team),
        key=key_id(team, number),
        model=MODEL,
        size=size,
        quality=quality,
        outcome=outcome,
        requests=bought + cached,
        requests_refused=int(outcome == "refused"),
        images_bought=bought,
        images_cached=cached,
        cost=bought * PRICE,
        saved=cached * PRICE,
    )


def _purchase(number: int, size: Size, now: float) -> Purchase:
    team = number % size.teams
    return Purchase(
        id=f"{number:032x}",
        request_id=f"{number:032x}",
        at=now - number,
        team=team_name(team),
        key=key_id(team, 0),
        model=MODEL,
        size=SIZES[0],
        quality=QUALITIES[0],
        images=1,
        cost=PRICE,
        in_gateway=False,
        in_key=True,
    )


def _batches(size: Size, now: float) -> Iterator[HistoryBatch]:
    """The request history: latency and errors hour by hour, and the recent requests at the end."""
    for back in range(max(size.latency_hours, size.error_hours) - 1, -1, -1):
        at = now - back * HOUR_SECONDS
        latency = HourLatency(int(at // HOUR_SECONDS))
        for seconds in (0.0004, 0.002):
            latency.own.add(seconds)
            latency.upstream.add(seconds * 10_000)
        last = back == 0
        yield HistoryBatch(
            writer=WRITER,
            number=size.latency_hours + size.error_hours - back,
            at=at,
            errors=_errors(size, at) if back < size.error_hours else (),
            latency=latency if back < size.latency_hours else None,
            lines=[_line(number, size, now) for number in range(size.lines)] if last else (),
            keep=2 * size.lines if last else None,
        )


def _errors(size: Size, at: float) -> list[TeamErrors]:
    kinds = [("insufficient_quota", 429), ("invalid_request", 400)]
    return [
        TeamErrors(
            team_name(team),
            ErrorKind(
                outcome=outcome, code=outcome, status=status, requests=3, last_at=at, last_id="id"
            ),
        )
        for team, (outcome, status) in product(range(size.teams), kinds)
    ]


def _line(number: int, size: Size, now: float) -> RequestLine:
    at = now - size.lines + number
    team = number % size.teams
    return RequestLine(
        place=make_place(at, WRITER, number),
        id=f"{number:032x}",
        team=team_name(team),
        key=key_id(team, 0),
        model=MODEL,
        size=SIZES[0],
        quality=QUALITIES[0],
        outcome="hit" if number % 2 else "miss",
        status=200,
        code=None,
        requests=1,
        images=1,
        cost=PRICE,
        saved=0,
        total=12.0,
        own=0.001,
        upstream=None if number % 2 else 11.9,
        fingerprint=f"{number:016x}",
    )
