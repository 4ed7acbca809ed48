"""Single purchases on the command line."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from gateway.stores.sqlite import SqliteStore
from gateway.upstream.sandbox import SandboxSettings, UpstreamFault
from tests.conformance.test_pictures import buyer
from tests.support.line import Line
from tests.support.rig import FLAT, UPSTREAM_KEY, running_rig

PEPPER = "a pepper of tests, long enough"

Run = Callable[..., Result]


async def serve(folder: Path, url: str) -> list[str]:
    """Make two purchases unknown and buy one, and return the ids of their requests."""
    async with running_rig(folder, FLAT, STORE_URL=url, KEYS_PEPPER=PEPPER) as rig:
        red, blue = await rig.key("red"), await rig.key("blue")
        rig.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=2)
        answers = [
            await rig.generate(red, None, n=2),
            await rig.generate(blue, None, headers={"X-Request-Id": "from-blue"}),
            await rig.generate(red, None),
        ]
    return [got.headers["X-Request-Id"] for got in answers]


@pytest.fixture
def served(line: Line, tmp_path: Path) -> tuple[list[str], Run]:
    url = f"sqlite:{tmp_path / 'my.db'}"
    ids = asyncio.run(serve(tmp_path, url))

    def run(*arguments: str) -> Result:
        environ = {"GATEWAY_STORE_URL": url, "GATEWAY_KEYS_PEPPER": PEPPER}
        return line.click(*arguments, **environ)

    return ids, run


def test_unknown_purchases_are_listed_shown_and_refunded(served: tuple[list[str], Run]) -> None:
    (unknown, _, bought), run = served

    def listed(*arguments: str) -> list[dict[str, Any]]:
        done = run("purchases", "list", "--format", "json", *arguments)
        assert done.exit_code == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    blue, red = listed()
    assert (red["id"], red["cost_usd"], red["team"]) == (unknown, "0.08", "red")
    assert listed("--team", "blue") == [blue] == listed("--limit", "1")
    assert listed("--since", red["at"]) == [blue, red]
    assert listed("--state", "open") == listed("--state", "refunded") == []
    assert json.loads(run("purchases", "show", unknown, "--format", "json").stdout) == red

    done = run("purchases", "refund", unknown, "--why", "not on the invoice")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"Refunded $0.08 of team red for purchase {unknown}.\n"
    assert [each["id"] for each in listed("--state", "unknown")] == [blue["id"]]
    shown = run("purchases", "show", unknown).stdout
    assert f"id            {unknown}\n" in shown
    assert "refunded.why  not on the invoice\n" in shown
    table = run("purchases", "list").stdout.splitlines()
    assert len(table) == 3
    assert table[2].endswith("not on the invoice")
    assert "from-blue" in table[1]
    assert f"purchase: - -> {unknown}" in run("audit").stdout
    (row,) = json.loads(run("usage", "--team", "red", "--format", "json").stdout)
    assert (row["requests"], row["images_unknown"], row["cost_usd"]) == (2, 0, "0.04")

    for id, why in (
        (unknown, "already refunded by command line as "),
        (bought, "This purchase was bought"),
        ("nobody", "No open or unknown purchase has this id"),
    ):
        done = run("purchases", "refund", id, "--why", "again")
        assert (done.exit_code, done.stdout) == (1, "")
        assert why in done.stderr
    assert run("purchases", "refund", "from-blue", "--why", "not billed").exit_code == 0
    assert listed("--state", "unknown") == []


def test_faulty_command_lines(filled: Line) -> None:
    for wrong in (
        ("list", "--state", "bought"),
        ("list", "--since", "yesterday"),
        ("list", "--limit", "0"),
        ("refund", "x"),
        ("refund", "x", "--why", " "),
        ("refund", "x", "--why", "a\nb"),
    ):
        assert filled.click("purchases", *wrong).exit_code == 2
    assert filled.click("purchases", "list", "--team", "desing").exit_code == 1
    done = filled.click("purchases", "list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "There are no such purchases.\n"


def test_a_delivered_picture_leads_to_its_purchase(line: Line, tmp_path: Path) -> None:
    url, picture = f"sqlite:{tmp_path / 'my.db'}", tmp_path / "apple.png"
    sandbox = SandboxSettings(api_key=UPSTREAM_KEY, picture="dot", answer="b64_json")

    async def buy() -> str:
        environ = {"STORE_URL": url, "KEYS_PEPPER": PEPPER}
        async with running_rig(tmp_path, FLAT, sandbox, **environ) as rig:
            got = await rig.generate(await rig.key("red"))
        picture.write_bytes(b64decode(got.json["data"][0]["b64_json"]))
        return got.headers["X-Request-Id"]

    id = asyncio.run(buy())
    environ = {"GATEWAY_STORE_URL": url, "GATEWAY_KEYS_PEPPER": PEPPER}
    done = line.click("purchases", "whose", str(picture), "--format", "json", **environ)
    (found,) = json.loads(done.stdout)
    assert (found["team"], found["request_id"], found["cost_usd"]) == ("red", id, "0.04")


def test_a_pictures_purchase_is_found_by_its_bytes(line: Line, tmp_path: Path) -> None:
    picture = tmp_path / "apple.png"
    picture.write_bytes(b"the bytes of a picture")
    digest = sha256(picture.read_bytes()).hexdigest()
    record = buyer("p1", digest, at=1_800_000_000.0, cost=80_000)

    async def write() -> None:
        async with SqliteStore(tmp_path / "my.db") as store:
            await store.pictures.write([record], None)

    asyncio.run(write())
    environ = {
        "GATEWAY_STORE_URL": f"sqlite:{tmp_path / 'my.db'}",
        "GATEWAY_KEYS_PEPPER": PEPPER,
    }
    done = line.click("purchases", "whose", str(picture), "--format", "json", **environ)
    assert json.loads(done.stdout) == [
        {
            "sha256": digest,
            "purchase": "p1",
            "request_id": "q-p1",
            "at": "2027-01-15T08:00:00Z",
            "team": "red",
            "key": "sk-gw-k1",
            "model": "m",
            "cost_usd": "0.08",
        }
    ]
    title, row = line.click("purchases", "whose", str(picture), **environ).stdout.splitlines()
    assert title.split() == ["at", "team", "key", "model", "cost", "USD", "request", "purchase"]
    assert "q-p1" in row
    picture.write_bytes(b"the bytes of another")
    done = line.click("purchases", "whose", str(picture), **environ)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("No purchase is known that bought a picture")
