"""The admin port: alive, ready, metrics, and an error in the usual shape for the rest."""

from pathlib import Path

import pytest

from tests.support.money import until
from tests.support.raw import ask, request_bytes
from tests.support.rig import Rig


async def test_healthz_says_alive(rig: Rig) -> None:
    got = await rig.admin("/healthz")
    assert (got.status, got.json) == (200, {"status": "alive"})


async def test_readyz_turns_when_the_gateway_drains(rig: Rig) -> None:
    assert (await rig.admin("/readyz")).json == {"status": "ready"}
    rig.gateway.proxy.draining = True
    got = await rig.admin("/readyz")
    assert (got.status, got.json) == (503, {"status": "not ready", "reason": "draining"})
    assert (await rig.admin("/healthz")).status == 200


async def test_a_balancer_may_leave_the_store_out(rig: Rig, tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    key = await rig.key()
    assert (await rig.generate(key)).status == 200
    database.rename(tmp_path / "elsewhere")
    try:
        await until(lambda: _is(rig, "/readyz", "not ready"), 30)
        assert await _is(rig, "/readyz?exclude=store", "ready")
        assert await _is(rig, "/readyz?exclude=stores", "not ready")
        assert (await rig.generate(key)).headers["Cache-Status"] == "gateway; hit"
    finally:
        (tmp_path / "elsewhere").rename(database)
    rig.gateway.proxy.draining = True
    assert await _is(rig, "/readyz?exclude=store", "not ready")


async def _is(rig: Rig, path: str, status: str) -> bool:
    return bool((await rig.admin(path)).json["status"] == status)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_may_ask_by_head(rig: Rig, path: str) -> None:
    answer = await ask(
        rig.gateway.admin_url, request_bytes(method="HEAD", target=path, body=b"", length=None)
    )
    assert (answer.status, answer.body) == (200, b"")


async def test_metrics_are_prometheus_text_with_the_requests_counted(rig: Rig) -> None:
    await rig.generate(await rig.key())
    await rig.get("/v1/nothing")
    got = await rig.admin("/metrics")
    assert got.status == 200
    assert got.headers["Content-Type"].startswith("text/plain")
    lines = got.body.decode().splitlines()
    assert 'gateway_requests_total{outcome="miss",team="team"} 1.0' in lines
    assert 'gateway_requests_total{outcome="not_found",team=""} 1.0' in lines
    assert "gateway_in_flight_requests 0.0" in lines


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/index.html", 404, "not_found", None),
        ("GET", "/metrics/", 404, "not_found", None),
        ("GET", "//metrics", 404, "not_found", None),
        ("POST", "/v1/images/generations", 404, "not_found", None),
        ("GET", "/v1/models", 404, "not_found", None),
        ("POST", "/", 405, "method_not_allowed", "GET, HEAD"),
        ("POST", "/metrics", 405, "method_not_allowed", "GET"),
        ("DELETE", "/healthz", 405, "method_not_allowed", "GET, HEAD"),
    ],
)
async def test_anything_else_is_an_error_in_the_usual_shape(
    rig: Rig, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    key = await rig.key()
    answer = await ask(rig.gateway.admin_url, request_bytes(key, method=method, target=path))
    assert answer.error == (status, code)
    assert answer.headers.get("allow") == allow


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/admin/v1/teams", "/"])
async def test_the_public_port_has_none_of_it(rig: Rig, path: str) -> None:
    assert (await rig.get(path, await rig.key())).status == 404
