"""The overview in the admin API."""

from datetime import UTC, datetime

import msgspec

from gateway.core.listing import public_type
from gateway.reporting.overview import Overview
from tests.support.rig import Rig


async def test_it_has_the_spend_of_today(rig: Rig) -> None:
    key = await rig.key("red")
    for _ in range(2):
        assert (await rig.generate(key, "kept")).status == 200
    assert (await rig.generate(key, " ")).status == 400
    await rig.gateway.flush()
    got = await rig.ask_admin("GET", "overview")
    page = msgspec.json.decode(got.body, type=public_type(Overview))
    assert page.to == datetime.now(UTC).date().isoformat()
    assert (len(page.days), page.days[-1]) == (30, page.to)
    assert (page.now.images_bought, page.now.images_cached, page.now.hit_ratio) == (1, 1, 0.5)
    assert (page.now.requests, page.now.requests_refused) == (2, 1)
    assert page.series[0].cost_usd[-1] == page.now.cost_usd == page.teams[0].cost_usd
    assert page.keys[0].key == key.partition("_")[0]
    assert page.before.hit_ratio is None
    hourly = (await rig.ask_admin("GET", f"overview?from={page.to}&to={page.to}")).json
    assert all(at.startswith(page.to) and at.endswith(":00:00Z") for at in hourly["days"])
    none = (await rig.ask_admin("GET", "overview?team=blue&to=2026-01-31")).json
    assert (none["from"], none["series"]) == ("2026-01-02", [])
