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
from gateway.config.images import ImagesSettings
from gateway.config.models import GPT_IMAGE_2, Model
from gateway.config.options import RESTART, options_of, tables_of, unwrap
from gateway.config.recording import ActivitySettings, LogSettings, TracingSettings, UsageSettings
from gateway.config.store_url import StoreUrl, parse_store_url
from gateway.config.webhooks import AlertSettings
from gateway.core.model import NO_LIMITS, Limits
from gateway.core.secret import Secret

MIB = 1024 * 1024


_PublicUrl = Annotated[
    str,
    Meta(
        description='an http or https URL with a host, or ""',
        extra={"read": values.check_base_url},
    ),
]


class ServerSettings(Struct, frozen=True, kw_only=True):
    """Addresses, limits and shutdown of the gateway's two ports.

    Options:
        host: Address of the public port, or a list of addresses; 0.0.0.0 accepts connections from
            every network, and :: over IPv6, too.
        port: Public port, for the teams' clients; 0 takes any free port.
        admin_host: Address of the admin port, or a list of addresses; keep it off public networks.
        admin_port: Admin port, for metrics, health checks, the dashboard and the admin API.
        public_url: URL that clients use for the gateway, shown on the dashboard; "" is host and
            port.
        allowed_origins: Origins of web pages whose scripts may call the public port (CORS), such as
            "https://app.example.com"; "*" allows all. Scripts need a key like any client.
        drain_notice_seconds: Time after SIGTERM in which /readyz already fails, but everything is
            still served, so that load balancers stop sending requests; 0 is none.
        admin_public_url: URL of the dashboard behind a proxy that changes the Host header; ""
            otherwise.
        drain_seconds: Time for requests in flight to finish after the notice; keep it above
            timeout_seconds.
        max_body_bytes: Maximum size of a request body on the public port, inflated if it is
            compressed; a larger one gets 413.
        max_pending_body_bytes: Memory for all request bodies that are still arriving, and for large
            ones whose requests are in progress; further ones get 503 and may retry. One body of
            max_body_bytes always fits.
        max_pending_body_bytes_per_key: The same for the requests of one key; further ones get 429
            and may retry.
        max_in_flight: Maximum requests at the same time; further ones get 503 and may retry.
        max_connections: Maximum open connections of the public port; further ones get 503, or are
            closed if the port speaks TLS. The gateway lowers it to what its limit of open files
            allows.
        max_connections_per_address: The same for each client address (IPv6: each /64); 0 for no
            limit. Leave it at 0 behind a load balancer, whose address all clients share.
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

    host: Annotated[values.Hosts, RESTART] = "127.0.0.1"
    port: Annotated[values.Port, RESTART] = 8080
    admin_host: Annotated[values.Hosts, RESTART] = "127.0.0.1"
    admin_port: Annotated[values.Port, RESTART] = 9090
    public_url: _PublicUrl = ""
    admin_public_url: _PublicUrl = ""
    allowed_origins: values.Origins = ()
    drain_notice_seconds: Annotated[float, Meta(ge=0, le=values.DAY)] = 5.0
    drain_seconds: Annotated[float, Meta(ge=0, le=values.DAY)] = 310.0
    max_body_bytes: values.Bytes = MIB
    max_pending_body_bytes: values.Bytes = 64 * MIB
    max_pending_body_bytes_per_key: values.Bytes = 16 * MIB
    max_in_flight: Annotated[int, Meta(ge=1, le=1_000_000)] = 5_000
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000), RESTART] = 10_000
    max_connections_per_address: Annotated[int, Meta(ge=0, le=1_000_000), RESTART] = 0
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
        unknown_hold_seconds: Seconds for which a repeat (same key, same body) is refused after an
            unknown charge; 0 buys repeats at once. A team may have its own value.
        response_format: true sends a request's response_format on to the upstream, which must
            accept that field.
        stream: true passes stream and partial_images on to the upstream, which must accept them,
            and its partial images to the client; false buys streams like other requests.
        content_codes: Codes or words of a 403 about the request's content, which is passed on; any
            other 403 means the gateway's key. A 200 with such a code and no image is not charged.
        account_codes: Codes or types of errors that mean that the gateway's account is out of
            credit or inactive; they come before content_codes. Clients get 503 (502 if the upstream
            answered 200), and operators an alert.
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
    unknown_hold_seconds: values.HoldSeconds = 60.0
    response_format: bool = False
    stream: bool = False
    content_codes: tuple[values.ErrorCode, ...] = (
        *("content_policy_violation", "moderation_blocked", "safety"),
        *("content_filter", "content_policy"),
    )
    account_codes: tuple[values.ErrorCode, ...] = (
        *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),
        *("account_deactivated", "quota_exceeded", "insufficient_credits", "insufficient_balance"),
        *("insufficient_funds", "payment_required"),
    )

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
        wait_replicas: Replicas of Redis that must acknowledge a purchase before it counts; if fewer
            do, it is refused.
    """

    url: Annotated[
        str,
        Meta(
            description="sqlite: and the path of a file, or the URL of a Redis (redis://, "
            "rediss://, redis+cluster://, redis+sentinel://, redis+unix://)",
            extra={"check": parse_store_url, **values.PASSWORD_NOTES},
        ),
        RESTART,
    ] = "sqlite:data/gateway.db"
    wait_replicas: Annotated[int, Meta(ge=0, le=100), RESTART] = 0

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
    keep_path: Annotated[
        values.MaybeFile,
        Meta(
            extra={
                "gone": "has no effect any more: [images] keeps answers over a restart, in the "
                "folder of its url. Remove this option, and the old folder"
            }
        ),
    ] = ""
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
            'redis+sentinel://, redis+unix://), or "" for memory only',
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


class Settings(Struct, frozen=True, kw_only=True):
    """The whole configuration. `default_model` serves requests that name no model."""

    server: ServerSettings = ServerSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    store: StoreSettings = StoreSettings()
    keys: KeySettings = KeySettings()
    cache: CacheSettings = CacheSettings()
    images: ImagesSettings = ImagesSettings()
    limits: Annotated[Limits, Meta(extra={"written_as": values.GatewayLimits})] = NO_LIMITS
    admin: AdminSettings = AdminSettings()
    alerts: AlertSettings = AlertSettings()
    usage: UsageSettings = UsageSettings()
    activity: ActivitySettings = ActivitySettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    models: Mapping[str, Model] = field(default_factory=lambda: {GPT_IMAGE_2.name: GPT_IMAGE_2})
    default_model: str = GPT_IMAGE_2.name

    @property
    def has_links(self) -> bool:
        """Whether a link to a picture works at every gateway that a client may ask."""
        is_alone = self.store.place.kind == "sqlite" and self.cache.place is None
        return self.images.enabled and (self.images.is_shared or is_alone)

    @property
    def has_urls(self) -> bool:
        """Whether clients may ask for URLs: links of the gateway, or the upstream's own."""
        return self.has_links or self.upstream.response_format


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
