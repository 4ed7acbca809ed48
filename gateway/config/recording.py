"""The sections of gateway.toml about what the gateway records: usage, activity, log and spans."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.options import RESTART

LEAST_USAGE_DAYS = 32
"""The shortest usage history: a month's report must still be complete when the month is over."""


def _check_days(days: int) -> None:
    if 0 < days < LEAST_USAGE_DAYS:
        raise ValueError("less than a month")


class UsageSettings(Struct, frozen=True, kw_only=True):
    """The usage history.

    Options:
        keep_days: Days that usage is kept; 0 keeps it for ever. Redis deletes whole weeks, up to
            six days later.
    """

    keep_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="0, or a whole number from 32 to 36500",
            extra={"check": _check_days},
        ),
    ] = 400


class ActivitySettings(Struct, frozen=True, kw_only=True):
    """The history of single requests of all gateways.

    Options:
        keep_requests: Maximum number of requests that are kept, for at most 7 days; 0 keeps none.
    """

    keep_requests: Annotated[int, Meta(ge=0, le=1_000_000)] = 10_000


class LogSettings(Struct, frozen=True, kw_only=True):
    """The log on standard error.

    Options:
        level: Lowest level that is logged; no level shows a prompt or a key.
        format: "auto" is console in a terminal, and json elsewhere.
    """

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(extra={"any_case": True})
    ] = "info"
    format: Annotated[Literal["auto", "json", "console"], RESTART] = "auto"


class TracingSettings(Struct, frozen=True, kw_only=True):
    """OpenTelemetry spans.

    Options:
        enabled: Export spans; needs the extra "otel" and OTEL_EXPORTER_OTLP_ENDPOINT.
        prompts: true puts prompts into spans.
    """

    enabled: Annotated[bool, RESTART] = False
    prompts: Annotated[bool, RESTART] = False
