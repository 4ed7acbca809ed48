"""Which settings of a Redis keep purchases that it has acknowledged, and which may lose them."""

from collections.abc import Mapping

from gateway.stores.port import UNKNOWN, StoreSetting
from gateway.stores.redis import opening
from gateway.stores.redis.link import Link

_SETTINGS = (
    *("appendonly", "appendfsync", "maxmemory-policy"),
    *("min-replicas-to-write", "min-replicas-max-lag"),
)

_NO_LIMIT = "noeviction"


async def settings_of(link: Link) -> list[StoreSetting]:
    """Return the server's settings with their risks. Raises StoreUnavailable."""
    facts = await opening.facts_of(link)
    found = _from_facts(facts) | await link.settings(_SETTINGS)
    values = {name: found.get(name, UNKNOWN) for name in (*_SETTINGS, "replicas")}
    risks = {
        "appendonly": _append_only,
        "appendfsync": _fsync,
        "maxmemory-policy": _eviction,
        "min-replicas-to-write": _replicas_to_write,
        "min-replicas-max-lag": _lag,
        "replicas": _replicas,
    }
    return [
        StoreSetting(name, value, None if value == UNKNOWN else risks[name](values, link))
        for name, value in values.items()
    ]


def _from_facts(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that INFO shows, where CONFIG is forbidden."""
    found = {}
    if "aof_enabled" in facts:
        found["appendonly"] = "yes" if facts["aof_enabled"] == "1" else "no"
    if "maxmemory_policy" in facts:
        found["maxmemory-policy"] = facts["maxmemory_policy"]
    if "connected_slaves" in facts:
        found["replicas"] = facts["connected_slaves"]
    return found


# -- risks: what may happen, and the better value; None if nothing --------------------------------

_Values = Mapping[str, str]


def _append_only(values: _Values, link: Link) -> str | None:
    lost = "a restart loses budgets: set appendonly yes"
    return None if values["appendonly"] == "yes" else lost


def _fsync(values: _Values, link: Link) -> str | None:
    lost = "a crash of the machine may lose purchases of seconds: set appendfsync always"
    return None if values["appendfsync"] == "always" else lost


def _eviction(values: _Values, link: Link) -> str | None:
    lost = f"a full memory evicts budgets: set maxmemory-policy {_NO_LIMIT}"
    return None if values["maxmemory-policy"] == _NO_LIMIT else lost


def _replicas_to_write(values: _Values, link: Link) -> str | None:
    replicas = _number(values["replicas"])
    needed = max(_number(values["min-replicas-to-write"]), link.wait_replicas)
    if needed >= replicas:
        return None
    return f"a failover may lose purchases: set min-replicas-to-write {replicas}, for all replicas"


def _lag(values: _Values, link: Link) -> str | None:
    required = _number(values["min-replicas-to-write"])
    if not required or link.wait_replicas >= _number(values["replicas"]) > 0:
        return None
    lost = "a failover may lose purchases of so many seconds: set min-replicas-max-lag 1"
    return None if values["min-replicas-max-lag"] == "1" else lost


def _replicas(values: _Values, link: Link) -> str | None:
    required = max(_number(values["min-replicas-to-write"]), link.wait_replicas)
    if _number(values["replicas"]) >= required:
        return None
    return f"purchases are refused: {required} replicas are required"


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
