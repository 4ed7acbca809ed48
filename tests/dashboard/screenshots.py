"""Pictures of the dashboard for the README: `make screenshots`.

A made-up company's gateway, its history written straight into the store; the same each time but
for the days.
"""

import asyncio
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace
from playwright.async_api import ViewportSize

from gateway.core.model import Entry
from tests.support.browser import Scheme, opened, running_browser
from tests.support.rig import FLAT, Rig, running_rig

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
SIZE: ViewportSize = {"width": 1180, "height": 760}
DAYS = 45
PRICE = 40_000
PICTURES: tuple[tuple[str, str, Scheme], ...] = (
    ("overview", "/", "light"),
    ("teams", "/teams", "dark"),
)
TEAMS = {"design": 60, "marketing": 42, "web-shop": 35, "research": 18, "support": 9}
"""Images that each team buys on a usual day."""

LIMITS = {
    "design": {"images_per_day": 36, "cost_per_month_usd": 8},
    "marketing": {"images_per_day": 60, "cost_per_month_usd": 4},
    "web-shop": {"images_per_day": 80, "cost_per_month_usd": 12},
    "research": {"images_per_month": 900, "concurrent_requests": 8},
    "support": {"images_per_day": 5},
}


def history(keys: dict[str, str], now: float) -> Iterator[Entry]:
    """What the teams asked for, an entry for each team, hour of work and outcome."""
    chance = random.Random(7)
    for age in range(DAYS):
        weekend = time.gmtime(now - age * 86_400).tm_wday >= 5
        for team, usual in TEAMS.items():
            share = (0.25 if weekend else 1.0) * (0.75 + 0.25 * math.sin(age / 5 + usual))
            bought = max(1, round(usual * share * chance.uniform(0.7, 1.2)))
            cached = round(bought * chance.uniform(0.2, 0.7))
            entry = Entry(
                id=f"{team} {age} bought",
                at=now - age * 86_400 - 1_800,
                team=team,
                key=keys[team],
                model="gpt-image-2",
                size="1024x1024",
                quality="medium",
                outcome="bought",
                requests=bought,
                images_bought=bought,
                cost=bought * PRICE,
            )
            yield entry
            yield replace(
                entry,
                id=f"{team} {age} cached",
                outcome="cached",
                requests=cached,
                images_bought=0,
                images_cached=cached,
                cost=0,
                saved=cached * PRICE,
            )


async def furnish(rig: Rig) -> None:
    """Teams with their limits, a key each, what they asked for before, and something today."""
    ids, texts = dict[str, str](), dict[str, str]()
    for team, limits in LIMITS.items():
        await rig.ask_admin("PUT", f"teams/{team}", json={"limits": limits})
        made = await rig.ask_admin("POST", "keys", json={"team": team, "name": f"{team} app"})
        texts[team] = made.json["key"]
        ids[team] = made.json["id"].removeprefix("sk-gw-")
    await rig.gateway.directory.refresh()
    await rig.gateway.store.accounts.record(list(history(ids, time.time())))
    for team, usual in TEAMS.items():
        for number in range(usual):
            await rig.generate(texts[team], f"{team} {number // 2}")


async def main() -> None:
    """Take them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with running_rig(Path(folder), FLAT) as rig, running_browser() as browser:
            await furnish(rig)
            for name, address, scheme in PICTURES:
                async with opened(browser, rig, scheme=scheme, size=SIZE) as screen:
                    await screen.sign_in()
                    await screen.open(address)
                    await screen.page.get_by_role("table").first.wait_for()
                    path = FOLDER / f"{name}.png"
                    await screen.page.screenshot(path=path)
                    sys.stdout.write(f"{path}: {path.stat().st_size // 1_000} kB\n")


if __name__ == "__main__":
    asyncio.run(main())
