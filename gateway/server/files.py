"""The limit of open files: each connection is a file."""

import resource

import structlog

from gateway.config.settings import ServerSettings
from gateway.web.acceptor import ConnectionLimits

log = structlog.get_logger(source="gateway")

OTHER_FILES = 128
"""Files that are no connections of teams or to the upstream: the store, the admin port, refused
connections, the reserve. Half of the limit if that is less."""


def allow_many_files() -> None:
    """Raise the soft limit to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connection_limits(server: ServerSettings) -> ConnectionLimits:
    """The limits of the public port, as far as the limit of open files allows, with a warning."""
    return ConnectionLimits(_fitting_connections(server), server.max_connections_per_address)


def _fitting_connections(server: ServerSettings) -> int:
    """`max_connections`, or fewer. Each purchase has a connection to the upstream as well."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return server.max_connections
    room = limit - min(OTHER_FILES, limit // 2)
    fitting = max(1, room - min(server.max_in_flight, room // 2))
    if fitting >= server.max_connections:
        return server.max_connections
    log.warning(
        "max_connections lowered: raise the limit of open files (ulimit -n, LimitNOFILE)",
        max_connections=server.max_connections,
        allowed=fitting,
        open_files=limit,
    )
    return fitting
