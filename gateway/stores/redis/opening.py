"""Checks a server at the start, or says in one line why it cannot be the store."""

import re
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    ResponseError,
)

from gateway.core.errors import StoreUnavailable
from gateway.stores.port import UnusableStore
from gateway.stores.redis import names, usage_sums
from gateway.stores.redis.link import Link
from gateway.stores.redis.permissions import require_permissions
from gateway.stores.redis.primary import SentinelRefuses

SCHEMA = usage_sums.SCHEMA

OLDEST_VERSION = (7, 0)
"""The first whose scripts declare what they need, and are refused before they start."""

_NO_LIMIT = "noeviction"


async def make_ready(link: Link) -> None:
    """Check the server, and begin an epoch where it has none.

    Raises UnusableStore, or StoreUnavailable where it is away.
    """
    with explaining(link.place):
        await inspect(link)
        link.epoch = (await _epoch(link, ""))[0]


async def inspect(link: Link) -> None:
    """Check that the server can be the store. Raises UnusableStore or StoreUnavailable."""
    _check(await facts_of(link))
    await require_permissions(link)


async def facts_of(link: Link) -> dict[str, str]:
    """Return what the server reports of itself, as far as this user may read it.

    Raises StoreUnavailable.
    """
    sections = await link.call_in_any_epoch("inspect", ())
    lines = b"\r\n".join(sections).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


@contextmanager
def explaining(place: str) -> Iterator[None]:
    """Raise failures inside that an operator can end as UnusableStore, with the reason."""
    try:
        yield
    except UnusableStore as failure:
        raise UnusableStore(f"The store {place} cannot be used: {failure}.") from failure
    except StoreUnavailable as failure:
        if reason := _reason_to_act(failure):
            raise UnusableStore(f"The store {place} cannot be used: {reason}.") from failure
        raise


async def confirm_reset(link: Link) -> bool:
    """Confirm the present epoch and accept it; False where no gateway waits for that."""
    link.epoch, confirmed = await _epoch(link, "confirm")
    return confirmed


async def _epoch(link: Link, confirm: str) -> tuple[str, bool]:
    begun = secrets.token_hex(16)
    schema, epoch, confirmed = await link.call_in_any_epoch(
        "epoch", (names.META, names.REFUSED), begun, SCHEMA, confirm
    )
    if int(schema) > SCHEMA:
        raise UnusableStore(
            f"it was made by a newer gateway (schema {int(schema)}, this one knows {SCHEMA})"
        )
    return epoch.decode(), bool(confirmed)


def _check(facts: dict[str, str]) -> None:
    version = facts.get("redis_version", "")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if version and numbers < OLDEST_VERSION:
        raise UnusableStore(f"Redis 7.0 or Valkey 7.2 is needed, or newer, and it is {version}")
    if facts.get("role") in ("slave", "replica"):
        raise UnusableStore("it is a read-only replica")
    policy = facts.get("maxmemory_policy", _NO_LIMIT)
    if policy != _NO_LIMIT:
        raise UnusableStore(
            f"its maxmemory-policy is {policy}, which would evict budgets; set it to noeviction"
        )


def _reason_to_act(failure: BaseException) -> str | None:
    """Return what an operator has to know of this failure; None where it ends without help."""
    cause: BaseException | None = failure
    while cause is not None:
        match cause:
            case NoPermissionError() | AuthorizationError():
                return f"its user lacks permissions that a gateway needs ({cause})"
            case SentinelRefuses():
                return "its sentinels do not accept sentinel_user and sentinel_password"
            case AuthenticationError():
                return "it does not accept this user and password"
            case ResponseError() if str(cause).startswith("IMPORT"):
                return "an import was not finished; run 'gateway store import' again"
            case ResponseError() if str(cause).startswith("NOAUTH"):
                return "it requires a password"
            case ssl.SSLCertVerificationError():
                return f"its certificate cannot be trusted ({cause.verify_message})"
            case ssl.SSLError(reason=str(reason)) if "CERTIFICATE_REQUIRED" in reason:
                return "it requires a client certificate (ssl_certfile and ssl_keyfile)"
        cause = cause.__cause__ or cause.__context__
    return None
