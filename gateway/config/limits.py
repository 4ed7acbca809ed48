"""The six limits as they are written in gateway.toml, in teams.toml and in the admin API."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.config.options import Usd
from gateway.config.values import Count
from gateway.core.model import Limits


class GatewayLimits(Struct, frozen=True, kw_only=True):
    """The limits of all teams together. Without a value there is no limit.

    Options:
        images_per_day: Images per UTC day; requests in flight count.
        images_per_month: Images per UTC month.
        cost_per_day_usd: Dollars per UTC day.
        cost_per_month_usd: Dollars per UTC month.
    """

    images_per_day: Count | None = None
    images_per_month: Count | None = None
    cost_per_day_usd: Usd | None = None
    cost_per_month_usd: Usd | None = None


class TeamLimits(GatewayLimits, frozen=True, kw_only=True):
    """The limits of one team or key. Without a value there is no limit.

    Options:
        requests_per_minute: Purchases in any 60 seconds; cache hits are free and do not count.
        concurrent_requests: Purchases at the same time.
    """

    requests_per_minute: Count | None = None
    concurrent_requests: Count | None = None


def limits_of(values: Mapping[str, Any]) -> Limits:
    """Return limits from the values of options. Names of money lose their `_usd`."""
    found = limit_values(values)
    return Limits(**{name: value for name, value in found.items() if value is not None})


def limit_values(values: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the values of options under the names of limits: money is in micro-dollars."""
    return {
        name.removesuffix("_usd"): None if value is None else int(value)
        for name, value in values.items()
    }
