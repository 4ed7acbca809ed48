"""What a gateway's Redis user must be allowed (an ACL), checked before a script fails halfway."""

from collections.abc import Iterable

import structlog

from gateway.stores.port import UnusableStore
from gateway.stores.redis import names
from gateway.stores.redis.link import Link

log = structlog.get_logger(source="store")

_OF_KEYS = ("DEL", "EXISTS", "UNLINK")
COMMANDS = (
    *_OF_KEYS,
    *("EXPIREAT", "GET", "HDEL", "HEXISTS", "HGET", "HGETALL", "HINCRBY"),
    *("HKEYS", "HLEN", "HMGET", "HSET", "HSETNX", "PEXPIRE", "PTTL", "SET", "ZADD"),
    *("ZRANGE", "ZRANGEBYSCORE", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK"),
    *("ZREMRANGEBYSCORE", "ZREVRANGEBYLEX", "ZREVRANGEBYSCORE", "ZSCORE"),
)
"""What scripts do with keys."""

KEYS = "~{gateway}:*"
CHANNEL = "{gateway}:leases"

_KEYS = (names.META, names.usage(0), "{gateway}:lease:0")


async def require_permissions(link: Link) -> None:
    """Check the permissions of the user. Raises UnusableStore, or StoreUnavailable."""
    # The check does not look at how many arguments there are, but each must not be a key.
    rest = {name: "" if name in _OF_KEYS else " 0 0" for name in COMMANDS}
    commands = {f"{name} {_KEYS[0]}{rest[name]}": f"+{name.lower()}" for name in COMMANDS}
    keys = {f"HGET {key} 0": KEYS for key in _KEYS}
    others = {"TIME": "+time"} | ({"WAIT 1 1": "+wait"} if link.wait_replicas else {})
    channel = {f"PUBLISH {CHANNEL} 0": "+publish", f"SUBSCRIBE {CHANNEL}": "+subscribe"}
    forbidden = await _forbidden(link, [*commands, *keys, *others, *channel])
    missing = [rule for command, rule in commands.items() if command in forbidden]
    if len(missing) == len(commands) or (not missing and not forbidden.isdisjoint(keys)):
        missing = [KEYS]
    missing += [rule for command, rule in others.items() if command in forbidden]
    if missing:
        rules = " ".join(missing)
        raise UnusableStore(f"its user lacks permissions that a gateway needs ({rules})")
    if not forbidden.isdisjoint(channel):
        log.warning(
            "the store's user lacks permissions: gateways do not hear at once of each other's"
            " purchases",
            place=link.place,
            missing=" ".join([*channel.values(), f"&{CHANNEL}"]),
        )


async def _forbidden(link: Link, commands: Iterable[str]) -> set[str]:
    commands = list(commands)
    places = await link.call_in_any_epoch("permissions", (), *commands)
    return {commands[place - 1] for place in places}  # Lua counts from 1
