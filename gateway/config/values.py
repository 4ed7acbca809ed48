"""The types that several options share, the six limits, and checks that a type cannot express."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from gateway.config.options import Usd
from gateway.config.store_url import parse_store_url
from gateway.core.bounds import MOST_HOLD_SECONDS
from gateway.core.faults import InvalidValue
from gateway.core.model import Limits
from gateway.core.secret import Secret

DAY = 86_400
PEPPER_BYTES = 16
"""The minimum length of a pepper."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The name of a team, a webhook or an admin token."""
NAME_RULE = "must have 1 to 64 letters, digits and . _ -, and start with a letter or digit"

_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)

Bytes = Annotated[int, Meta(ge=1, le=2**40)]
Seconds = Annotated[float, Meta(gt=0, le=DAY)]
HoldSeconds = Annotated[float, Meta(ge=0, le=MOST_HOLD_SECONDS)]
LongSeconds = Annotated[float, Meta(gt=0, le=10 * 365 * DAY)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=0, le=10**12)]
MaybeFile = Annotated[
    str, Meta(pattern=r"\A[^\x00-\x1f\x7f]*\Z", description='a path, or "" for none')
]
ErrorCode = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
        description="1 to 64 letters, digits and . _ -, that starts with a letter or digit",
    ),
]
File = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]+\Z", description="the path of a file")]


def is_every_address(host: str) -> bool:
    """Whether a host stands for all addresses of the machine: 0.0.0.0 or ::."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def addresses_of(hosts: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the distinct hosts to listen on. `::` stands for all IPv4 addresses, too."""
    distinct = dict[str, None]()
    for host in (hosts,) if isinstance(hosts, str) else hosts:
        distinct[host] = None
        if ":" in host and is_every_address(host):
            distinct["0.0.0.0"] = None  # noqa: S104 - an IPv6 socket takes only IPv6 (IPV6_V6ONLY)
    return tuple(distinct)


def _read_hosts(hosts: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Return one host, or a tuple of several. Raises ValueError."""
    distinct = tuple(dict.fromkeys((hosts,) if isinstance(hosts, str) else hosts))
    for host in distinct:
        if not _HOST_NAME.fullmatch(host):
            ip_address(host)  # raises ValueError
    if not distinct:
        raise ValueError("not a host")
    return distinct[0] if len(distinct) == 1 else distinct


Hosts = Annotated[
    tuple[str, ...] | str,  # in this order: a variable is read as a list
    Meta(
        description="a host name or an IP address, without a port, or a list of them",
        extra={"read": _read_hosts},
    ),
]


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]{1,255}|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def _read_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Return the distinct origins as browsers send them. Raises ValueError."""
    found = dict[str, None]()
    for origin in map(str.lower, origins):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError("not an origin")
        scheme, _, _ = origin.partition(":")
        found[origin.removesuffix(_DEFAULT_PORTS.get(scheme, "/"))] = None
    return tuple(found)


Origins = Annotated[
    tuple[str, ...],
    Meta(
        description='a list of origins such as "https://app.example.com", without a path or a '
        'slash at the end, or of "*"',
        extra={"read": _read_origins},
    ),
]


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
    if not (text and text.isascii() and text.isprintable() and " " not in text):
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
    if not text:
        return
    place = parse_store_url(text)
    if place.password is not None or place.sentinel_password is not None:
        raise ValueError("holds a password, which must not be in a file")


PASSWORD_NOTES = {"in_file": _refuse_password, "show": _without_password}
"""For an option whose URL may hold a password."""
