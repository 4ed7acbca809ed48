"""Steps that many tests take with a rig."""

import secrets
import time
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.config.settings import KeySettings
from gateway.config.store_url import parse_store_url
from gateway.core import key_format
from gateway.core.model import NO_LIMITS, Key, Limits, Team
from gateway.server.startup import load_pepper
from gateway.stores.sqlite import SqliteStore
from tests.support.directory import put_key, put_teams
from tests.support.money import until as until
from tests.support.rig import Got, Rig


def calls(rig: Rig) -> int:
    """How many calls the upstream got."""
    return rig.sandbox.counts.calls


def status(got: Got) -> str:
    """The Cache-Status of an answer, which must be a 200."""
    assert got.status == 200, got.body
    return got.headers["Cache-Status"]


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def samples(rig: Rig) -> Samples:
    """Every sample of /metrics, by name and labels."""
    return read_samples((await rig.admin("/metrics")).body.decode())


def read_samples(text: str) -> Samples:
    """The samples of a page of metrics."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def metric(rig: Rig, name: str, **labels: str) -> float:
    """The sum of a metric over all series that have these labels."""
    return total(await samples(rig), name, **labels)


def total(found: Samples, name: str, **labels: str) -> float:
    """The sum of a metric over all series that have these labels."""
    wanted = set(labels.items())
    return sum(value for (each, has), value in found.items() if each == name and wanted <= has)


async def key_in(
    folder: Path, team: str = "team", limits: Limits = NO_LIMITS, **policy: Any
) -> str:
    """A new key, created by another process than the gateway whose data is in `folder`.

    The team is created, or replaced, with these limits and policy.
    """
    id, text = key_format.mint(secrets.token_bytes)
    place = parse_store_url(f"sqlite:{folder / 'gateway.db'}")
    digest = key_format.digest(
        text, load_pepper(KeySettings(pepper_file=str(folder / "pepper")), place)
    )
    async with SqliteStore(folder / "gateway.db") as store:
        await put_teams(store.directory, [Team(name=team, limits=limits, **policy)])
        await put_key(
            store.directory, Key(id=id, team=team, name="", digest=digest, created=time.time())
        )
    return text
