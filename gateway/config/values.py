"""The types that several options share, the six limits, and checks that a type cannot express."""

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from gateway.config.options import Usd
from gateway.config.store_url import parse_store_url
from gateway.core.faults import InvalidValue
from gateway.core.model import Limits
from gateway.core.secret import Secret

DAY = 86_400
PEPPER_BYTES = 16
"""The minimum length of a pepper."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The name of a team, a webhook or an admin token."""
NAME_RULE = "must have 1 to 64 letters, digits and . _ -, and start with a letter or digit"

Bytes = Annotated[int, Meta(ge=1, le=2**40)]
Seconds = Annotated[float, Meta(gt=0, le=DAY)]
LongSeconds = Annotated[float, Meta(gt=0, le=10 * 365 * DAY)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=0, le=10**12)]
Host = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9._:%-]{1,255}\Z", description="a host name or an IP address")
]
MaybeFile = Annotated[
    str, Meta(pattern=r"\A[^\x00-\x1f\x7f]*\Z", description='a path, or "" for none')
]
File = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]+\Z", description="the path of a file")]


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
    """Return limits from the values of options."""
    return Limits(**limit_values(values))


def limit_values(values: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the values of options under the names of limits: names of money lose their `_usd`."""
    return {name.removesuffix("_usd"): value for name, value in values.items()}


def http_host(text: str) -> str | None:
    """Return the host of an http or https URL, or None for any other text."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        return None
    return (valid and parts.hostname) or None


def check_base_url(text: str) -> str:
    """Return the URL without trailing slashes. Raises ValueError if it cannot be called."""
    if not text:
        return text
    host = http_host(text)
    wrong = (
        host is None
        or any(len(label) > 63 for label in host.split("."))  # RFC 1035, section 2.3.4
        or any(mark in text for mark in "@?#\\%")
        or not text.isprintable()
        or any(character.isspace() for character in text)
    )
    if wrong:
        raise ValueError("not a base URL")
    return text.rstrip("/")


def check_api_key(secret: Secret) -> None:
    """Check that an HTTP header can carry the key."""
    text = secret.reveal()
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("not a header value")


def check_pepper(secret: Secret) -> None:
    """Check the length of a pepper."""
    if len(secret.reveal().encode()) < PEPPER_BYTES:
        raise ValueError("too short")


def check_cache_url(text: str) -> None:
    """Check the URL of a shared cache, or "" for none."""
    if text and parse_store_url(text).kind == "sqlite":
        raise InvalidValue("the URL names a file, but a shared cache needs Redis")


def _without_password(text: str) -> str:
    """Return the URL without user and password; "" stays."""
    return parse_store_url(text).shown if text else ""


def _refuse_password(text: str) -> None:
    """Refuse a URL with a password, which must not be in a file."""
    if text and parse_store_url(text).password is not None:
        raise ValueError("holds a password, which must not be in a file")


PASSWORD_NOTES = {"in_file": _refuse_password, "show": _without_password}
"""For an option whose URL may hold a password."""
