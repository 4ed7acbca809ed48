"""Forgetting usage that is too old, by whole weeks, and packing what is not packed yet."""

from gateway.core.periods import day_of
from gateway.stores.redis import names, scripts
from gateway.stores.redis.link import Link
from gateway.stores.redis.usage_packs import WEEK_DAYS, WEEK_HOURS, pack, pack_keys
from gateway.stores.sums import hour_of


async def tidy(link: Link, now: float, before: float | None) -> bool:
    """Do one step of either; False where there was nothing to do.

    The weeks that were over at `before` are forgotten; None keeps them.
    """
    if before is not None and await _forget(link, day_of(before) // WEEK_DAYS):
        return True
    return await pack(link, hour_of(now))


async def _forget(link: Link, first_week: int) -> bool:
    """Forget the oldest week, if it is before this one."""
    before = f"({first_week * WEEK_HOURS}"
    found = [
        int(hour)
        for key in (names.HOURS, names.PACKED)
        for hour in await link.call(
            scripts.READ, (names.META, key), "ZRANGEBYSCORE", "-inf", before, "LIMIT", 0, 1
        )
    ]
    if not found:
        return False
    first = min(found) // WEEK_HOURS * WEEK_HOURS
    hours = range(first, first + WEEK_HOURS)
    keys = [names.META, names.HOURS, names.PACKED, *pack_keys(hours)]
    for hour in hours:
        keys += names.kept(hour)
    await link.call(scripts.FORGET_USAGE, keys, hours[0], hours[-1])
    return True
