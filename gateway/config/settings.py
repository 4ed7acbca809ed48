"""The sections of gateway.toml: their options, bounds, defaults and descriptions.

`gateway.config.load` reads them from a file and the environment. Durations are in seconds, sizes
in bytes. The "Options" of each docstring are the descriptions in docs/configuration.md and
config/gateway.toml. An option that has no effect yet does not belong here.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field, inspect
from msgspec.structs import fields

from gateway.config import values
from gateway.config.admin_tokens import (
    ENVIRONMENT,
    LONGEST,
    SHORTEST,
    AdminToken,
    check_chosen_token,
    digest,
)
from gateway.config.models import GPT_IMAGE_2, Model
from gateway.config.options import RESTART, options_of, tables_of, unwrap
from gateway.config.store_url import StoreUrl, parse_store_url
from gateway.config.webhooks import AlertSettings
from gateway.core.model import NO_LIMITS, Limits
from gateway.core.secret import Secret

MIB = 1024 * 1024
LEAST_USAGE_DAYS = 32
"""The shortest usage history: a month's report must still be complete when the month is over."""


class ServerSettings(Struct, frozen=True, kw_only=True):
    """Addresses, limits and shutdown of the gateway's two ports.

    Options:
        host: Address of the public port; 0.0.0.0 accepts connections from every network.
        port: Public port, for the teams' clients; 0 takes any free port.
        admin_host: Address of the admin port; keep it off public networks.
        admin_port: Admin port, for metrics, health checks, the dashboard and the admin API.
        public_url: URL that clients use for the gateway, shown on the dashboard; "" is host and
            port.
        drain_seconds: Time for requests in flight to finish after SIGTERM; keep it above
            timeout_seconds.
        max_body_bytes: Maximum size of a request body on the public port; a larger one gets 413.
        max_in_flight: Maximum requests at the same time; further ones get 503 and may retry.
        handshake_seconds: Time for a TLS handshake.
        head_seconds: Time for the head of a request, from its first byte; for the first request
            of a connection, from the start of the connection.
        body_seconds: Time for the body of a request on the public port.
        unread_seconds: Time that a client may read nothing of an answer; then the connection ends.
        keepalive_seconds: Time that a connection may stay idle between two requests.
        tls_cert: PEM file with the certificate and its intermediates; with tls_key, the public
            port speaks TLS. SIGHUP loads a renewed one.
        tls_key: PEM file with the certificate's unencrypted private key.
    """

    host: Annotated[values.Host, RESTART] = "127.0.0.1"
    port: Annotated[values.Port, RESTART] = 8080
    admin_host: Annotated[values.Host, RESTART] = "127.0.0.1"
    admin_port: Annotated[values.Port, RESTART] = 9090
    public_url: Annotated[
        str,
        Meta(
            description='an http or https URL with a host, or ""',
            extra={"read": values.check_base_url},
        ),
    ] = ""
    drain_seconds: Annotated[float, Meta(ge=0, le=values.DAY)] = 310.0
    max_body_bytes: values.Bytes = MIB
    max_in_flight: Annotated[int, Meta(ge=1, le=1_000_000)] = 5_000
    handshake_seconds: Annotated[values.Seconds, RESTART] = 10.0
    head_seconds: Annotated[values.Seconds, RESTART] = 15.0
    body_seconds: values.Seconds = 30.0
    unread_seconds: Annotated[values.Seconds, RESTART] = 30.0
    keepalive_seconds: Annotated[values.Seconds, RESTART] = 75.0
    tls_cert: Annotated[values.File | None, RESTART] = None
    tls_key: Annotated[values.File | None, RESTART] = None


class UpstreamSettings(Struct, frozen=True, kw_only=True):
    """The paid API and its credentials.

    Options:
        base_url: Scheme and host of the paid API; required to serve.
        path: Path of the generations endpoint.
        api_key: API key of the paid API; overrides api_key_file.
        api_key_file: File that holds the API key; the gateway picks up a changed file within three
            seconds.
        connect_seconds: Time to connect; a request that does not connect in time is not charged.
        timeout_seconds: Time for the whole answer; a request without one by then is charged as
            unknown, because the image may have been drawn.
        max_response_bytes: Maximum size of an answer; a larger one is discarded and charged as
            unknown.
    """

    base_url: Annotated[
        str,
        Meta(
            description="an http or https URL with a host, without user, query, fragment, "
            "percent signs or spaces, such as https://images.example.com",
            extra={"read": values.check_base_url},
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
        Meta(description="printable ASCII without spaces", extra={"check": values.check_api_key}),
    ] = None
    api_key_file: values.File | None = None
    connect_seconds: values.Seconds = 5.0
    timeout_seconds: values.Seconds = 300.0
    max_response_bytes: values.Bytes = 64 * MIB

    @property
    def url(self) -> str:
        """The URL that receives generation requests."""
        return self.base_url + self.path

    @property
    def key(self) -> str:
        """The API key, or "" if none is set. A gateway does not start without one."""
        return self.api_key.reveal() if self.api_key else ""


class StoreSettings(Struct, frozen=True, kw_only=True):
    """The store, which all gateways of one installation share.

    Options:
        url: Store of teams, keys, quotas and usage. SQLite needs a local disk; more than one
            gateway needs Redis.
    """

    url: Annotated[
        str,
        Meta(
            description="sqlite: and the path of a file, or the URL of a Redis (redis://, "
            "rediss://, redis+cluster://, redis+sentinel://)",
            extra={"check": parse_store_url, **values.PASSWORD_NOTES},
        ),
        RESTART,
    ] = "sqlite:data/gateway.db"

    @property
    def place(self) -> StoreUrl:
        """The parsed URL."""
        return parse_store_url(self.url)


class KeySettings(Struct, frozen=True, kw_only=True):
    """The pepper that team keys are hashed with.

    Options:
        pepper: Secret that team keys are hashed with; overrides pepper_file.
        pepper_file: File that holds the pepper, created at the first start. Keys only work with
            it: back it up with the store.
    """

    pepper: Annotated[
        Secret | None,
        Meta(
            description=f"text of at least {values.PEPPER_BYTES} bytes",
            extra={"check": values.check_pepper},
        ),
        RESTART,
    ] = None
    pepper_file: Annotated[values.File, RESTART] = "data/pepper"


class CacheSettings(Struct, frozen=True, kw_only=True):
    """The cache of answers, in memory and in a Redis that replicas share.

    Options:
        enabled: false disables the cache: every request buys its images.
        ttl_seconds: Time that an answer stays in the cache.
        url_ttl_seconds: The same for answers with image URLs that show no expiry. Keep it below the
            lifetime of the upstream's URLs.
        max_bytes: Memory for all answers; the least recently used ones leave first.
        max_entry_bytes: Maximum size of a cached answer; a larger one is not cached.
        keep_path: Folder for a snapshot of the memory cache over restarts, such as "data/cache"; ""
            for none. The snapshot holds images and revised prompts, in a file of mode 0600.
        scope: "team" keeps the cached answers of teams apart; "shared" lets teams get each other's
            answers, and the first team pays.
        ignore_fields: Request fields that are left out of the cache key, because they do not change
            the image.
        url: Redis that all gateways use as a shared cache; "" for memory only. Use another Redis
            than the store's, one that may evict.
    """

    enabled: bool = True
    ttl_seconds: values.LongSeconds = float(values.DAY)
    url_ttl_seconds: values.LongSeconds = 3_300.0
    max_bytes: Annotated[values.Bytes, RESTART] = 256 * MIB
    max_entry_bytes: Annotated[values.Bytes, RESTART] = 32 * MIB
    keep_path: values.MaybeFile = ""
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
            'redis+sentinel://), or "" for memory only',
            extra={"check": values.check_cache_url, **values.PASSWORD_NOTES},
        ),
        RESTART,
    ] = ""

    @property
    def place(self) -> StoreUrl | None:
        """The parsed URL, or None if there is none."""
        return parse_store_url(self.url) if self.url else None


class AdminSettings(Struct, frozen=True, kw_only=True):
    """The admin API and the dashboard. Without any token, both are off.

    Options:
        token: Admin token; without any token, the admin port only serves metrics and health
            checks.
        audit_days: Days that the audit log is kept.
        show_prompts: true shows the first 200 characters of the most repeated prompts on the
            dashboard. They are kept in memory only.
    """

    token: Annotated[
        Secret | None,
        Meta(
            description=f"{SHORTEST} to {LONGEST} printable ASCII characters "
            "without spaces, quotes and commas",
            extra={"check": check_chosen_token},
        ),
    ] = None
    audit_days: Annotated[int, Meta(ge=1, le=36_500)] = 400
    show_prompts: bool = False
    tokens: Mapping[str, AdminToken] = {}

    @property
    def all_tokens(self) -> list[AdminToken]:
        """The token of the environment, if it is set, and the named tokens."""
        named = list(self.tokens.values())
        if self.token is None:
            return named
        own = AdminToken(name=ENVIRONMENT, role="admin", digest=digest(self.token.reveal()))
        return [own, *named]


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

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Annotated[Literal["auto", "json", "console"], RESTART] = "auto"


class TracingSettings(Struct, frozen=True, kw_only=True):
    """OpenTelemetry spans.

    Options:
        enabled: Export spans; needs the extra "otel" and OTEL_EXPORTER_OTLP_ENDPOINT.
        prompts: true puts prompts into spans.
    """

    enabled: Annotated[bool, RESTART] = False
    prompts: Annotated[bool, RESTART] = False


class Settings(Struct, frozen=True, kw_only=True):
    """The whole configuration. `default_model` serves requests that name no model."""

    server: ServerSettings = ServerSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    store: StoreSettings = StoreSettings()
    keys: KeySettings = KeySettings()
    cache: CacheSettings = CacheSettings()
    limits: Annotated[Limits, Meta(extra={"written_as": values.GatewayLimits})] = NO_LIMITS
    admin: AdminSettings = AdminSettings()
    alerts: AlertSettings = AlertSettings()
    usage: UsageSettings = UsageSettings()
    activity: ActivitySettings = ActivitySettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    models: Mapping[str, Model] = field(default_factory=lambda: {GPT_IMAGE_2.name: GPT_IMAGE_2})
    default_model: str = GPT_IMAGE_2.name


def _sections() -> Iterator[tuple[str, type[Struct]]]:
    """Yield each section of `Settings` with the Struct that declares its options."""
    for section in fields(Settings):
        kind, notes = unwrap(inspect.type_info(section.type))
        if isinstance(kind, inspect.StructType):
            yield section.name, notes.get("written_as", kind.cls)


SECTIONS = dict(_sections())
"""The fixed sections. Each of their options has an environment variable."""

OPTIONS = {name: options_of(struct, section=name) for name, struct in SECTIONS.items()}
"""The options of each fixed section."""

TABLES = {name: list(tables_of(struct)) for name, struct in SECTIONS.items()}
"""The tables in each fixed section that map names to tables, such as [admin.tokens]."""
