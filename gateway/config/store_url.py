"""URLs of stores: the kind, the servers and the credentials.

    sqlite:data/gateway.db                                  a file on a local disk
    redis://[[user]:password@]host[:6379][/0]               one Redis; rediss:// with TLS
    redis+cluster://[[user]:password@]host[:6379],host...   a cluster, by some of its nodes
    redis+sentinel://[[user]:password@]host[:26379],host.../service[/0]
    redis+unix://[[user]:password@]/path/redis.sock[?db=0]  one Redis on this machine

Cluster and sentinels have a TLS form too: rediss+cluster:// and rediss+sentinel://. User, password
and the values of options are percent-encoded (RFC 3986, section 2.1).

`_OPTIONS` are the options that may follow a ?, joined by &. TLS is always verified: ssl_ca_certs
names the certificate of an authority that the system does not know, and ssl_certfile with
ssl_keyfile the certificate that this client shows. The user and the password before the @ are
those of Redis; sentinels may have others.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, cast
from urllib.parse import unquote

from msgspec import Struct

from gateway.core.faults import InvalidValue
from gateway.core.secret import Secret

SQLITE = re.compile(r"sqlite:(?!//|:memory:)([^\x00-\x1f\x7f?#]+)")
_UNIX = re.compile(
    r"(redis\+)?unix://((?P<user>[^\s:@/?#]*)(:(?P<password>[^\s:@/?#]*))?@)?"
    r"(?P<path>/[^\x00-\x1f\x7f@?#]+)(\?(?P<query>[^\s#]*))?"
)
_REDIS = re.compile(
    r"(?P<scheme>redis(?P<tls>s?)(\+(?P<form>cluster|sentinel))?)://"
    r"((?P<user>[^\s:@/?#]*)(:(?P<password>[^\s:@/?#]*))?@)?"
    r"(?P<nodes>[^\s@/?#]+)"
    r"(?P<path>(/[^\s/?#]*){0,2})"
    r"(\?(?P<query>[^\s#]*))?",
    re.ASCII,
)
_NODE = re.compile(
    r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253}))(:(?P<port>[0-9]{1,5}))?"
)

_SCHEME = re.compile(r"(rediss?(\+(cluster|sentinel))?|(redis\+)?unix)://")

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = (*_TLS_FILES, "sentinel_user", "sentinel_password", "db")

StoreKind = Literal["sqlite", "redis", "cluster", "sentinel"]


class StoreUrl(Struct, frozen=True, kw_only=True):
    """A parsed store URL. `path` is SQLite's file or Redis' socket, the rest is for Redis.

    `service` is the name of the primary at the sentinels. `tls_files` has the files that TLS
    needs by the names of their options, which are also redis-py's.
    """

    kind: StoreKind
    path: str = ""
    nodes: tuple[tuple[str, int], ...] = ()
    db: int = 0
    service: str = ""
    user: str | None = None
    password: Secret | None = None
    sentinel_user: str | None = None
    sentinel_password: Secret | None = None
    tls: bool = False
    tls_files: dict[str, str] = {}

    @property
    def shown(self) -> str:
        """The URL without user and password, for people."""
        if self.kind == "sqlite":
            return f"sqlite:{self.path}"
        if self.path:
            return f"redis+unix://{self.path}?db={self.db}"
        form = "" if self.kind == "redis" else f"+{self.kind}"
        nodes = ",".join(
            f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.nodes
        )
        service = f"/{self.service}" if self.service else ""
        db = "" if self.kind == "cluster" else f"/{self.db}"
        return f"redis{'s' if self.tls else ''}{form}://{nodes}{service}{db}"


def parse_store_url(text: str) -> StoreUrl:
    """Parse a store URL.

    Raises ValueError for an unknown scheme, and InvalidValue with the part that is wrong.
    """
    if match := SQLITE.fullmatch(text):
        return StoreUrl(kind="sqlite", path=match[1])
    if match := _UNIX.fullmatch(text):
        options = _options(match["query"], ("db",))
        return StoreUrl(
            kind="redis",
            path=unquote(match["path"]),
            db=_database(options.get("db", "0")),
            user=_text(match["user"]),
            password=_secret(match["password"]),
        )
    match = _REDIS.fullmatch(text)
    if match is None or "@" in match["path"]:
        raise _syntax_error(text)
    kind = cast(StoreKind, match["form"] or "redis")
    service, db = _service_and_db(kind, match["path"])
    allowed = [name for name in _OPTIONS if name != "db"]
    options = _options(match["query"], allowed)
    files = {name: options[name] for name in _TLS_FILES if name in options}
    sentinel_password = options.get("sentinel_password")
    _check_options(kind, bool(match["tls"]), options)
    return StoreUrl(
        kind=kind,
        nodes=_nodes(kind, match["nodes"]),
        db=db,
        service=service,
        user=_text(match["user"]),
        password=_secret(match["password"]),
        sentinel_user=options.get("sentinel_user"),
        sentinel_password=Secret(sentinel_password) if sentinel_password else None,
        tls=bool(match["tls"]),
        tls_files=files,
    )


def _text(encoded: str | None) -> str | None:
    return unquote(encoded) if encoded else None


def _secret(encoded: str | None) -> Secret | None:
    return Secret(unquote(encoded)) if encoded else None


def _syntax_error(text: str) -> ValueError:
    if text.startswith("sqlite:"):
        return InvalidValue("sqlite: must be followed by a path, without //, ?, # or :memory:")
    if _SCHEME.match(text) is None:
        return ValueError("it must start with sqlite: or redis://")
    if "unix://" in text and "@" not in text:
        return InvalidValue("the path of a Unix socket must be absolute, after three slashes")
    return InvalidValue("special characters in user and password must be percent-encoded")


def _nodes(kind: StoreKind, text: str) -> tuple[tuple[str, int], ...]:
    standard = 26_379 if kind == "sentinel" else 6_379
    nodes = tuple(_node(node, standard) for node in text.split(","))
    if kind == "redis" and len(nodes) > 1:
        raise InvalidValue("only redis+cluster:// and redis+sentinel:// take several servers")
    return nodes


def _node(text: str, standard: int) -> tuple[str, int]:
    match = _NODE.fullmatch(text)
    if match is None:
        raise InvalidValue("a server must be a host name or an address, and :port if needed")
    port = int(match["port"] or standard)
    if not 0 < port < 65_536:
        raise InvalidValue("a port must be a number from 1 to 65535")
    return match["v6"] or match["host"], port


def _service_and_db(kind: StoreKind, path: str) -> tuple[str, int]:
    service, parts = "", [part for part in path.split("/") if part]
    if kind == "sentinel":
        if not parts:
            raise InvalidValue("the service name is missing: put /name after the sentinels")
        service = unquote(parts.pop(0))
    if kind == "cluster" and parts:
        raise InvalidValue("a cluster has one database: remove the path after the servers")
    if len(parts) > 1:
        raise _wrong_database()
    return service, _database(parts[0] if parts else "0")


def _database(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,4}", text) is None:
        raise _wrong_database()
    return int(text)


def _wrong_database() -> ValueError:
    return InvalidValue("the database must be a number after the last slash, or after ?db=")


def _options(query: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """Return the options after the ?, decoded. Raises InvalidValue for one that is not allowed."""
    options: dict[str, str] = {}
    for part in query.split("&") if query is not None else ():
        name, _, value = part.partition("=")
        if name not in allowed or name in options or not value:
            raise InvalidValue(
                f"only these may follow the ?, each once and with a value: {', '.join(allowed)}"
            )
        options[name] = unquote(value)
    return options


def _check_options(kind: StoreKind, tls: bool, options: Mapping[str, str]) -> None:
    """Check that the options fit together and the kind of server. Raises InvalidValue."""
    for name in options:
        if name in _TLS_FILES and not tls:
            raise InvalidValue(f"{name} needs rediss://")
        if name not in _TLS_FILES and kind != "sentinel":
            raise InvalidValue(f"{name} needs redis+sentinel://")
    if ("ssl_certfile" in options) != ("ssl_keyfile" in options):
        raise InvalidValue("ssl_certfile and ssl_keyfile need each other")
    if "sentinel_user" in options and "sentinel_password" not in options:
        raise InvalidValue("sentinel_user needs sentinel_password")
