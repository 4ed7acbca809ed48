"""The admin port: alive, ready, metrics, and an error in the usual shape for the rest."""

from pathlib import Path

from tests.support.raw import ask, request_bytes
from tests.support.rig import Rig
from tests.support.steps import until


async def test_readiness_without_the_store(rig: Rig, tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    key = await rig.key()
    assert (await rig.generate(key)).status == 200
    database.rename(tmp_path / "elsewhere")
    try:
        await until(lambda: _is(rig, "/readyz", "not ready"), 30)
        assert await _is(rig, "/readyz?exclude=store", "ready")
        assert await _is(rig, "/readyz?exclude=stores", "not ready")
        assert (await rig.admin("/readyz")).json["reason"] == "store_unavailable"
        assert (await rig.admin("/healthz")).status == 200
        assert (await rig.generate(key)).headers["Cache-Status"] == "gateway; hit"
        assert (await rig.generate(key, None)).error[2] == "store_unavailable"
    finally:
        (tmp_path / "elsewhere").rename(database)
    await until(lambda: _is(rig, "/readyz", "ready"), 30)
    assert (await rig.generate(key, None)).status == 200
    rig.gateway.proxy.draining = True
    got = await rig.admin("/readyz?exclude=store")
    assert (got.status, got.json) == (503, {"status": "not ready", "reason": "draining"})
    assert (await rig.admin("/healthz")).status == 200


async def _is(rig: Rig, path: str, status: str) -> bool:
    return bool((await rig.admin(path)).json["status"] == status)


async def test_probes_answer_get_and_head(rig: Rig) -> None:
    got = await rig.admin("/healthz")
    assert (got.status, got.json) == (200, {"status": "alive"})
    for path in ("/healthz", "/readyz"):
        head = request_bytes(method="HEAD", target=path, body=b"", length=None)
        answer = await ask(rig.gateway.admin_url, head)
        assert (answer.status, answer.body) == (200, b"")


async def test_other_routes_and_methods_are_refused_in_the_usual_shape(rig: Rig) -> None:
    key = await rig.key()
    for method, path, allow in (
        ("GET", "/index.html", None),
        ("GET", "/metrics/", None),
        ("GET", "//metrics", None),
        ("POST", "/v1/images/generations", None),
        ("GET", "/v1/models", None),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/healthz", "GET, HEAD"),
    ):
        answer = await ask(rig.gateway.admin_url, request_bytes(key, method=method, target=path))
        assert answer.error == ((405, "method_not_allowed") if allow else (404, "not_found")), path
        assert answer.headers.get("allow") == allow


async def test_the_public_port_has_no_admin_route(rig: Rig) -> None:
    key = await rig.key()
    for path in ("/metrics", "/healthz", "/readyz", "/admin/v1/teams", "/"):
        assert (await rig.get(path, key)).status == 404, path
