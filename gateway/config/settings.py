"""What an operator can set: the sections of gateway.toml, their options, bounds and defaults.

`gateway.config.load` reads these from a file and the environment. Durations are in seconds,
sizes in bytes. An option that does nothing yet has no place here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field, inspect
from msgspec.structs import fields

from gateway.config.admin_tokens import ENVIRONMENT, LONGEST, SHORTEST, TOKEN_PATTERN, AdminToken
from gateway.config.admin_tokens import digest as token_digest
from gateway.config.models import GPT_IMAGE_2, Model
from gateway.config.options import RESTART, InvalidValue, Usd, is_table, options_of, unwrap
from gateway.config.store_url import StoreUrl, parse_store_url
from gateway.config.webhooks import AlertSettings
from gateway.core.model import NO_LIMITS, Limits
from gateway.core.secret import Secret

KIB = 1024
MIB = 1024 * KIB
DAY = 86_400
PEPPER_BYTES = 16
"""The fewest bytes of a pepper."""
LEAST_USAGE_DAYS = 32
"""The shortest usage history: the report of a month is to be whole when it is over."""


def _base_url(text: str) -> str:
    """The URL without trailing slashes; "" stays. Raises ValueError for what cannot be called."""
    if not text:
        return text
    parts = urlsplit(text)
    wrong = (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or any(len(label) > 63 for label in parts.hostname.split("."))  # RFC 1035, section 2.3.4
        or parts.port == 0
        or any(mark in text for mark in "@?#\\%")
        or not text.isprintable()
        or any(character.isspace() for character in text)
    )
    if wrong:
        raise ValueError("not a base URL")
    return text.rstrip("/")


def _api_key(secret: Secret) -> Secret:
    text = secret.reveal()
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("not a header value")
    return secret


def _pepper(secret: Secret) -> Secret:
    if len(secret.reveal().encode()) < PEPPER_BYTES:
        raise ValueError("too short")
    return secret


def _token(secret: Secret) -> Secret:
    if re.fullmatch(TOKEN_PATTERN, secret.reveal()) is None:
        raise ValueError("not a token")
    return secret


def _store_url(text: str) -> str:
    _place(text)
    return text


def _cache_url(text: str) -> str:
    if text and _place(text).kind == "sqlite":
        raise InvalidValue("a file is no Redis")
    return text


def _place(text: str) -> StoreUrl:
    try:
        return parse_store_url(text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None


def _no_password(text: str) -> None:
    """Raise ValueError where a URL holds what must not stand in a file."""
    if text and parse_store_url(text).password is not None:
        raise ValueError("holds a password, which no file may")


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


class ServerSettings(Struct, frozen=True, kw_only=True):
    """Where the gateway listens (port 0: any free one), how much it takes in, how it stops.

    `public_url` is how clients reach it, "" where that is where it listens. With `tls_cert` and
    `tls_key` the public port speaks TLS.
    """

    host: Annotated[Host, RESTART] = "127.0.0.1"
    port: Annotated[Port, RESTART] = 8080
    admin_host: Annotated[Host, RESTART] = "127.0.0.1"
    admin_port: Annotated[Port, RESTART] = 9090
    public_url: Annotated[
        str, Meta(description='an http or https URL with a host, or ""', extra={"read": _base_url})
    ] = ""
    drain_seconds: Annotated[float, Meta(ge=0, le=DAY)] = 310.0
    max_body_bytes: Bytes = MIB
    max_in_flight: Annotated[int, Meta(ge=1, le=1_000_000)] = 5_000
    tls_cert: Annotated[File | None, RESTART] = None
    tls_key: Annotated[File | None, RESTART] = None


class UpstreamSettings(Struct, frozen=True, kw_only=True):
    """The paid API. `base_url` has no trailing slash; `api_key` outranks the file."""

    base_url: Annotated[
        str,
        Meta(
            description="an http or https URL with a host, without user, query, fragment, "
            "percent signs or spaces, such as https://images.example.com",
            extra={"read": _base_url},
        ),
    ] = ""
    path: Annotated[
        str,
        Meta(
            pattern=r"\A/[A-Za-z0-9._~!$&'()*+,;=:@/-]*\Z",
            description="the path of a URL, such as /api/v1/images/generations",
        ),
    ] = "/api/v1/images/generations"
    api_key: Annotated[
        Secret | None,
        Meta(description="printable ASCII without spaces", extra={"read": _api_key}),
    ] = None
    api_key_file: File | None = None
    connect_seconds: Seconds = 5.0
    timeout_seconds: Seconds = 300.0
    max_response_bytes: Bytes = 64 * MIB

    @property
    def url(self) -> str:
        """Where generations are sent."""
        return self.base_url + self.path

    @property
    def key(self) -> str:
        """The key itself; "" where none is set, with which no gateway starts."""
        return self.api_key.reveal() if self.api_key else ""


class StoreSettings(Struct, frozen=True, kw_only=True):
    """Where teams, keys, quotas and usage are kept: see `gateway.config.store_url`."""

    url: Annotated[
        str,
        Meta(
            description="sqlite: and the path of a file, or the URL of a Redis (redis://, "
            "rediss://, redis+cluster://, redis+sentinel://)",
            extra={"read": _store_url, "in_file": _no_password},
        ),
        RESTART,
    ] = "sqlite:data/gateway.db"

    @property
    def place(self) -> StoreUrl:
        """The URL, taken apart."""
        return parse_store_url(self.url)


class KeySettings(Struct, frozen=True, kw_only=True):
    """What the digests of team keys are made with. `pepper` outranks the file."""

    pepper: Annotated[
        Secret | None,
        Meta(description=f"text of at least {PEPPER_BYTES} bytes", extra={"read": _pepper}),
        RESTART,
    ] = None
    pepper_file: Annotated[File, RESTART] = "data/pepper"


class CacheSettings(Struct, frozen=True, kw_only=True):
    """What is kept in memory, and how long. `url_ttl_seconds` is for answers with URLs that do
    not say how long they live. `keep_path` is the folder where it outlives a restart; "" for none.
    `url` is the Redis behind the memory, which replicas share; "" for none.
    """

    enabled: bool = True
    ttl_seconds: LongSeconds = float(DAY)
    url_ttl_seconds: LongSeconds = 3_300.0
    max_bytes: Annotated[Bytes, RESTART] = 256 * MIB
    max_entry_bytes: Annotated[Bytes, RESTART] = 32 * MIB
    keep_path: MaybeFile = ""
    scope: Literal["team", "shared"] = "team"
    ignore_fields: tuple[
        Annotated[
            str,
            Meta(
                pattern=r"\A(?!(model|prompt|size|n)\Z)[^\x00-\x1f\x7f]{1,128}\Z",
                description="the name of a field other than model, prompt, size and n",
            ),
        ],
        ...,
    ] = ("user", "safety_identifier")
    url: Annotated[
        str,
        Meta(
            description="the URL of a Redis (redis://, rediss://, redis+cluster://, "
            'redis+sentinel://), or "" for memory alone',
            extra={"read": _cache_url, "in_file": _no_password},
        ),
        RESTART,
    ] = ""

    @property
    def place(self) -> StoreUrl | None:
        """The URL, taken apart; None without one."""
        return parse_store_url(self.url) if self.url else None


class GatewayLimits(Struct, frozen=True, kw_only=True):
    """The limits of all teams together, as they are written. None means no limit."""

    images_per_day: Count | None = None
    images_per_month: Count | None = None
    cost_per_day_usd: Usd | None = None
    cost_per_month_usd: Usd | None = None


class TeamLimits(GatewayLimits, frozen=True, kw_only=True):
    """The limits of one team, as they are written. None means no limit."""

    requests_per_minute: Count | None = None
    concurrent_requests: Count | None = None


def limits_of(values: Mapping[str, Any]) -> Limits:
    """Limits from the values of options: those of money lose the `_usd` of their names."""
    found = limit_values(values)
    return Limits(**{name: value for name, value in found.items() if value is not None})


def limit_values(values: Mapping[str, Any]) -> dict[str, int | None]:
    """The values of options as those of limits: money in micro-dollars, None for no limit."""
    return {
        name.removesuffix("_usd"): None if value is None else int(value)
        for name, value in values.items()
    }


class AdminSettings(Struct, frozen=True, kw_only=True):
    """The admin API. Without `token`, which is the environment's, and without named `tokens`,
    there is none.
    """

    token: Annotated[
        Secret | None,
        Meta(
            description=f"{SHORTEST} to {LONGEST} printable ASCII characters without blanks, "
            "quotes and commas",
            extra={"read": _token},
        ),
    ] = None
    audit_days: Annotated[int, Meta(ge=1, le=36_500)] = 400
    show_prompts: bool = False
    tokens: Mapping[str, AdminToken] = {}

    @property
    def all_tokens(self) -> list[AdminToken]:
        """The token of the environment, where it is set, and the named ones."""
        named = list(self.tokens.values())
        if self.token is None:
            return named
        digest = token_digest(self.token.reveal())
        return [AdminToken(name=ENVIRONMENT, role="admin", digest=digest), *named]


def _keep_days(days: int) -> int:
    if 0 < days < LEAST_USAGE_DAYS:
        raise ValueError("less than a month")
    return days


class UsageSettings(Struct, frozen=True, kw_only=True):
    """For how many days the usage history is kept; 0 for ever."""

    keep_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="0, or a whole number from 32 to 36500",
            extra={"read": _keep_days},
        ),
    ] = 400


class ActivitySettings(Struct, frozen=True, kw_only=True):
    """How many requests are kept to look at, of all gateways together; 0 keeps none."""

    keep_requests: Annotated[int, Meta(ge=0, le=1_000_000)] = 10_000


class LogSettings(Struct, frozen=True, kw_only=True):
    """`format` "auto" is json, and console where a person watches (a terminal)."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Annotated[Literal["auto", "json", "console"], RESTART] = "auto"


class TracingSettings(Struct, frozen=True, kw_only=True):
    """Spans for OpenTelemetry; `prompts` says whether they show what was asked for."""

    enabled: Annotated[bool, RESTART] = False
    prompts: Annotated[bool, RESTART] = False


class Settings(Struct, frozen=True, kw_only=True):
    """The whole configuration. `default_model` is the one for requests that name none."""

    server: ServerSettings = ServerSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    store: StoreSettings = StoreSettings()
    keys: KeySettings = KeySettings()
    cache: CacheSettings = CacheSettings()
    limits: Annotated[Limits, Meta(extra={"written_as": GatewayLimits})] = NO_LIMITS
    admin: AdminSettings = AdminSettings()
    alerts: AlertSettings = AlertSettings()
    usage: UsageSettings = UsageSettings()
    activity: ActivitySettings = ActivitySettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    models: Mapping[str, Model] = field(default_factory=lambda: {GPT_IMAGE_2.name: GPT_IMAGE_2})
    default_model: str = GPT_IMAGE_2.name


def _sections() -> Iterator[tuple[str, type[Struct]]]:
    """The sections of `Settings`, each with the Struct that declares its options."""
    for section in fields(Settings):
        kind, notes = unwrap(inspect.type_info(section.type))
        if isinstance(kind, inspect.StructType):
            yield section.name, notes.get("written_as", kind.cls)


SECTIONS = dict(_sections())
"""The fixed sections. Each of their options has an environment variable."""

OPTIONS = {name: options_of(struct, section=name) for name, struct in SECTIONS.items()}
"""The options of each fixed section."""

TABLES = {
    name: [field.name for field in fields(struct) if is_table(field.type)]
    for name, struct in SECTIONS.items()
}
"""The tables inside each fixed section that map names to tables, such as [admin.tokens]."""
