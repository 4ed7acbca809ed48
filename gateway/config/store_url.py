"""URLs of stores: the kind, the servers and the credentials.

    sqlite:data/gateway.db                                  a file on a local disk
    redis://[[user]:password@]host[:6379][/0]               one Redis; rediss:// with TLS
    redis+cluster://[[user]:password@]host[:6379],host...   a cluster, by some of its nodes
    redis+sentinel://[[user]:password@]host[:26379],host.../service[/0]

The last two have a TLS form too: rediss+cluster:// and rediss+sentinel://. User and password are
percent-encoded (RFC 3986, section 2.1). TLS is always verified; `?ssl_ca_certs=FILE` names the
certificate of an authority that the system does not know.
"""

import re
from typing import Literal, cast
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from gateway.core.faults import InvalidValue
from gateway.core.secret import Secret

SQLITE = re.compile(r"sqlite:(?!//|:memory:)([^\x00-\x1f\x7f?#]+)")
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

_SCHEME = re.compile(r"rediss?(\+(cluster|sentinel))?://")

StoreKind = Literal["sqlite", "redis", "cluster", "sentinel"]


class StoreUrl(Struct, frozen=True, kw_only=True):
    """A parsed store URL. `path` is for SQLite, everything else is for Redis.

    `service` is the name of the master at the sentinels.
    """

    kind: StoreKind
    path: str = ""
    nodes: tuple[tuple[str, int], ...] = ()
    db: int = 0
    service: str = ""
    user: str | None = None
    password: Secret | None = None
    tls: bool = False
    ca_certs: str | None = None

    @property
    def shown(self) -> str:
        """The URL without user and password, for people."""
        if self.kind == "sqlite":
            return f"sqlite:{self.path}"
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
    match = _REDIS.fullmatch(text)
    if match is None or "@" in match["path"]:
        raise _syntax_error(text)
    kind = cast(StoreKind, match["form"] or "redis")
    service, db = _service_and_db(kind, match["path"])
    return StoreUrl(
        kind=kind,
        nodes=_nodes(kind, match["nodes"]),
        db=db,
        service=service,
        user=unquote(match["user"]) if match["user"] else None,
        password=Secret(unquote(match["password"])) if match["password"] else None,
        tls=bool(match["tls"]),
        ca_certs=_ca_certs(match["query"], bool(match["tls"])),
    )


def _syntax_error(text: str) -> ValueError:
    if text.startswith("sqlite:"):
        return InvalidValue("sqlite: must be followed by a path, without //, ?, # or :memory:")
    if _SCHEME.match(text) is None:
        return ValueError("it must start with sqlite: or redis://")
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
    if len(parts) > 1 or not all(re.fullmatch(r"[0-9]{1,4}", part) for part in parts):
        raise InvalidValue("the database must be a number after the last slash")
    return service, int(parts[0]) if parts else 0


def _ca_certs(query: str | None, tls: bool) -> str | None:
    options = dict(parse_qsl(query or "", keep_blank_values=True))
    ca_certs = options.pop("ssl_ca_certs", None)
    if options or (query and ca_certs is None) or ca_certs == "":
        raise InvalidValue("only ssl_ca_certs=FILE may follow the ?")
    if ca_certs is not None and not tls:
        raise InvalidValue("ssl_ca_certs needs rediss://")
    return ca_certs
