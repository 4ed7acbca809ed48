"""The pages of the admin port and their files: addresses, headers and origin."""

import hashlib
import re
from importlib import resources
from pathlib import Path
from urllib.parse import urljoin

import pytest

from gateway.web.admin.pages import POLICY, SECTIONS
from tests.support.raw import ask, request_bytes
from tests.support.rig import Rig, running_rig

ASSETS = Path(str(resources.files("gateway.web") / "assets"))
FILES = sorted(
    str(path.relative_to(ASSETS))
    for path in ASSETS.rglob("*")
    if path.suffix in (".js", ".mjs", ".css", ".svg")
)
ROW = re.compile(r"^\| `(\S+)` \| \S+ \| [\d.]+ \|.*\| `([0-9a-f]{64})` \|$", re.MULTILINE)


async def test_every_address_of_the_dashboard_has_its_page(rig: Rig) -> None:
    for path in (
        "/",
        "/?from=2026-11-01",
        "/teams/red?from=2026-11-01",
        "/teams/",
        "/teams/a%2Fb/c",
        *map("/{}".format, SECTIONS),
    ):
        got = await rig.admin(path)
        assert (got.status, got.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        (script,) = re.findall(r'<script type="module" src="([^"]+)">', got.body.decode())
        assert urljoin(f"http://h/gw{path}", script) == "http://h/gw/assets/app/main.js"
        assert got.headers["Content-Security-Policy"] == POLICY
        assert got.headers["Cache-Control"] == "no-cache"
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert got.headers["Referrer-Policy"] == "no-referrer"
        assert "camera=()" in got.headers["Permissions-Policy"]
    assert "unsafe" not in POLICY
    for path, kind in (("docs", "html"), ("docs.js", "javascript"), ("docs.css", "css")):
        got = await rig.admin(f"/{path}")
        assert (got.status, got.headers["Content-Security-Policy"]) == (200, POLICY)
        assert got.headers["Content-Type"].startswith(f"text/{kind}")
    head = request_bytes(method="HEAD", target="/", body=b"", length=None)
    answer = await ask(rig.gateway.admin_url, head)
    assert (answer.status, answer.body) == (200, b"")


async def test_its_files_have_their_types_and_entity_tags(rig: Rig) -> None:
    kinds = {".css": "text/css", ".svg": "image/svg+xml"}
    for name in FILES:
        got = await rig.admin(f"/assets/{name}")
        assert (got.status, got.body) == (200, (ASSETS / name).read_bytes())
        kind = kinds.get(Path(name).suffix, "text/javascript")
        assert got.headers["Content-Type"].startswith(kind)
        assert got.headers["Content-Security-Policy"] == POLICY
        again = await rig.session.get(
            f"{rig.gateway.admin_url}/assets/{name}", headers={"If-None-Match": got.headers["ETag"]}
        )
        assert (again.status, await again.read()) == (304, b"")


async def test_no_other_file_is_served(rig: Rig) -> None:
    vendor = ("vendor/VENDOR.md", "vendor/htm.LICENSE")
    assets = ("", "index.html", *vendor, "../dashboard.py", "%2e%2e/dashboard.py", "/app/main.js")
    pages = ("/Teams", "/teamsters", "//teams", "/index.html")
    for path in (*(f"/assets/{name}" for name in assets), *pages):
        get = request_bytes(target=path, body=b"", method="GET")
        assert (await ask(rig.gateway.admin_url, get)).error == (404, "not_found"), path


async def test_without_a_token_the_page_says_how_to_switch_the_dashboard_on(tmp_path: Path) -> None:
    async with running_rig(tmp_path, ADMIN_TOKEN="") as rig:
        for path in ("/", "/teams/red"):
            got = await rig.admin(path)
            assert (got.status, got.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
            assert b"GATEWAY_ADMIN_TOKEN" in got.body
            assert got.headers["Content-Security-Policy"] == POLICY
        assert (await rig.admin("/assets/app/app.css")).status == 200


async def test_answers_of_the_admin_port_carry_a_request_id(rig: Rig) -> None:
    for path in ("/", "/healthz", "/nothing", "/admin/v1/teams"):
        assert re.fullmatch("[0-9a-f]{32}", (await rig.admin(path)).headers["X-Request-Id"])
    got = await rig.ask_admin("GET", "teams", headers={"X-Request-Id": "mine-1"})
    assert got.headers["X-Request-Id"] == "mine-1"


# -- the files --------------------------------------------------------------------------------


def test_vendored_files_are_as_they_were_published() -> None:
    table = (ASSETS / "vendor" / "VENDOR.md").read_text()
    listed = dict(ROW.findall(table))
    present = {
        path.name for path in (ASSETS / "vendor").iterdir() if path.suffix in (".mjs", ".css")
    }
    assert set(listed) == present
    for name, digest in listed.items():
        assert hashlib.sha256((ASSETS / "vendor" / name).read_bytes()).hexdigest() == digest
    for licence in re.findall(r"`(\w+\.LICENSE)`", table):
        assert (ASSETS / "vendor" / licence).stat().st_size > 500


def test_the_one_edit_can_be_undone() -> None:
    table = (ASSETS / "vendor" / "VENDOR.md").read_text()
    edited = (ASSETS / "vendor" / "hooks.mjs").read_bytes()
    published = edited.replace(b'from"./preact.mjs"', b'from"preact"')
    assert hashlib.sha256(published).hexdigest() in table.rpartition("sha256 is")[2]


@pytest.mark.parametrize("page", ["assets/index.html", "assets/off.html", "docs/docs.html"])
def test_no_page_has_an_inline_script_or_style_or_another_host(page: str) -> None:
    text = (ASSETS.parent / page).read_text()
    assert "<style" not in text
    assert " style=" not in text
    assert re.search(r"\son\w+=", text) is None
    assert re.search(r"<script(?![^>]*\ssrc=)", text) is None
    assert not [url for url in re.findall(r'(?:src|href)="([^"]*)"', text) if "//" in url]


def test_the_scripts_load_nothing_from_other_hosts() -> None:
    for file in [*(ASSETS / "app").rglob("*.*"), *(ASSETS.parent / "docs").glob("*.*")]:
        text = file.read_text()
        hosts = set(re.findall(r"\w+://([^/:`\"']*)", text))
        assert hosts <= {"127.0.0.1"}, file  # only shown in an example
        assert "innerHTML" not in text, file


def test_server_and_app_have_the_same_addresses() -> None:
    paths = re.findall(r'path: "/([^/"]*)', (ASSETS / "app" / "routes.js").read_text())
    assert {path for path in paths if path} == set(SECTIONS)
