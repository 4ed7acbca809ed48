"""The settings of the store's server in the log, in a metric and in /readyz."""

from pathlib import Path
from typing import cast

from structlog.testing import capture_logs

from gateway.server.store_watch import StoreWatch
from tests.support.redis import running_redis
from tests.support.redis_kinds import command
from tests.support.rig import Rig, running_rig
from tests.support.steps import metric


async def test_each_change_of_the_stores_settings_is_one_line(tmp_path: Path) -> None:
    safe = {"appendonly": "yes", "appendfsync": "always"}
    async with running_redis(tmp_path / "redis", **safe) as redis, redis.client() as client:
        with capture_logs() as lines:
            async with running_rig(tmp_path, STORE_URL=redis.url, KEYS_PEPPER="p" * 32) as rig:
                watch: StoreWatch = rig.gateway._store_watch

                async def state() -> tuple[float, str]:
                    await watch.check()
                    await watch.check()
                    got = await rig.admin("/readyz")
                    assert (got.status, got.json["status"]) == (200, "ready")
                    name = "gateway_store_setting_safe"
                    shown = await metric(rig, name, setting="appendfsync")
                    return shown, got.json["store"]["appendfsync"]

                assert await state() == (1, "always")
                await client.config_set("appendfsync", "everysec")
                assert await state() == (0, "everysec")
                await client.config_set("appendfsync", "no")
                assert await state() == (0, "no")
                await client.config_set("appendfsync", "always")
                assert await state() == (1, "always")
                await command(client, "ACL", "SETUSER", "default", "-config")
                assert await state() == (-1, "unknown")
        seen = [
            (line["event"], line.get("risks", "").partition(":")[0])
            for line in lines
            if "may lose" in line["event"] or "safe" in line["event"]
        ]
        assert seen == [
            ("the store may lose purchases", "appendfsync everysec"),
            ("the store may lose purchases", "appendfsync no"),
            ("the store's settings are safe", ""),
            ("the store may lose purchases", "not shown to this user, check them"),
        ]


async def test_a_file_has_no_settings(rig: Rig) -> None:
    assert cast(dict[str, str], (await rig.admin("/readyz")).json) == {"status": "ready"}
