"""The budget of request bodies: of each key and in all, on both ports."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.web.admin.http import BODY_LIMITS, MAX_BODY_BYTES
from gateway.web.admin.sessions import MOST_SIGN_IN_BYTES
from gateway.web.body_budget import LARGE_BYTES, RETRY_SECONDS
from tests.support.raw import BODY, RawAnswer, Wire, ask, request_bytes, wire
from tests.support.rig import ADMIN_TOKEN, FLAT, Rig, running_rig
from tests.support.steps import drawing, until

ONE = 40_000
"""The size of a body, of which a key may have two and all keys three."""

SETTINGS = {
    "SERVER_MAX_BODY_BYTES": str(ONE),
    "SERVER_MAX_PENDING_BODY_BYTES": str(3 * ONE),
    "SERVER_MAX_PENDING_BODY_BYTES_PER_KEY": str(2 * ONE),
}
LIMITED, FULL = (429, "rate_limit_exceeded"), (503, "overloaded")
WHOLE = BODY + b" " * (ONE - len(BODY))
"""A large body that usually arrives together with its head."""


class Way(NamedTuple):
    """A way to send a body that the gateway has to wait for: its headers, and the part sent."""

    headers: str = ""
    length: int | None = ONE
    sent: bytes = b"{"


WAYS: Mapping[str, Way] = {
    "length": Way(),
    "expected": Way(headers="Expect: 100-continue\r\n", sent=b""),
    "chunks": Way("Transfer-Encoding: chunked\r\n", None, b"%x\r\n%s\r\n" % (ONE, b" " * ONE)),
}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path, FLAT, None, **SETTINGS) as rig:
        yield rig


def bytes_held(rig: Rig) -> int:
    return rig.gateway.public.bodies.total


@asynccontextmanager
async def sending(rig: Rig, key: str, way: Way, count: int = 1) -> AsyncIterator[list[Wire]]:
    """Requests whose bodies do not end."""
    before = bytes_held(rig)
    async with AsyncExitStack() as opened:
        wires = [await opened.enter_async_context(wire(rig.url)) for _ in range(count)]
        for each in wires:
            await each.send(
                request_bytes(key, headers=way.headers, body=way.sent, length=way.length)
            )
        await until(lambda: bytes_held(rig) == before + count * ONE)
        yield wires
    await until(lambda: bytes_held(rig) == before)


async def refusal(rig: Rig, key: str, way: Way) -> RawAnswer:
    """The answer to a request whose body does not end. It asks for no body."""
    whole = request_bytes(key, headers=way.headers, body=way.sent, length=way.length)
    return await ask(rig.url, whole)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_bodies_under_way_have_a_budget_of_each_key_and_in_all(rig: Rig, way: Way) -> None:
    noisy, other, third = await rig.key(), await rig.key("other"), await rig.key("third")
    async with sending(rig, noisy, way, 2):
        for answer in (await refusal(rig, noisy, way), await refusal(rig, noisy, WAYS["length"])):
            assert answer.error == LIMITED
            assert 1 <= float(answer.headers["retry-after"]) <= RETRY_SECONDS * 2
            assert str(2 * ONE).encode() in answer.body
        (line, _) = (await rig.ask_admin("GET", "activity?errors=true")).json["requests"]
        by = line["refused_by"]
        assert (by["scope"], by["owner"]) == ("key", noisy.partition("_")[0])
        assert by["limit"] == "max_pending_body_bytes_per_key"
        assert (by["used"], by["size"], by["asked"]) == (2 * ONE, 2 * ONE, ONE)
        async with sending(rig, other, way):
            answer = await refusal(rig, third, way)
            assert answer.error == FULL
            assert 1 <= float(answer.headers["retry-after"]) <= RETRY_SECONDS * 2
            # Whoever sends a small body as usual, together with its head, notices nothing.
            for key in (noisy, other, third):
                assert (await ask(rig.url, request_bytes(key))).status == 200
    assert rig.gateway.public.bodies.of_sender == {}
    assert (await ask(rig.url, request_bytes(noisy, body=WHOLE))).status == 200
    for team in ("team", "other", "third"):
        await rig.assert_books(1, team=team)


async def test_a_slow_body_holds_its_bytes_no_longer_than_it_may_take(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, None, **SETTINGS, SERVER_BODY_SECONDS="0.5") as rig:
        key = await rig.key()
        async with sending(rig, key, WAYS["length"], 2) as wires:
            for each in wires:
                assert (await each.answer()).error == (400, "body_timeout")
            assert bytes_held(rig) == 0
            assert (await ask(rig.url, request_bytes(key, body=WHOLE))).status == 200


async def test_a_body_that_came_late_and_small_counts_until_it_is_read(rig: Rig) -> None:
    key = await rig.key()
    async with wire(rig.url) as connection:
        await connection.send(request_bytes(key, body=BODY[:3], length=len(BODY)))
        await until(lambda: bytes_held(rig) == len(BODY))
        await connection.send(BODY[3:])
        assert (await connection.answer()).status == 200
    assert bytes_held(rig) == 0


async def test_a_large_body_counts_until_its_request_is_answered(tmp_path: Path) -> None:
    sandbox = drawing(latency=3600)
    settings = {**SETTINGS, "SERVER_DRAIN_SECONDS": "0"}
    async with running_rig(tmp_path, FLAT, sandbox, **settings) as rig, AsyncExitStack() as opened:
        key = await rig.key()
        assert ONE > LARGE_BYTES > len(BODY)
        for body in (WHOLE, BODY, WHOLE):  # one purchase, which all wait for
            connection = await opened.enter_async_context(wire(rig.url))
            await connection.send(request_bytes(key, body=body))
        await until(lambda: bytes_held(rig) == 2 * ONE)
        assert (await ask(rig.url, request_bytes(key, body=WHOLE))).error == LIMITED
        await opened.aclose()
        await until(lambda: bytes_held(rig) == 0)


@pytest.mark.parametrize("way", [WAYS["length"], WAYS["expected"]])
async def test_a_body_without_a_valid_key_is_not_read(rig: Rig, way: Way) -> None:
    answer = await refusal(rig, "sk-gw-wrong", way)
    assert answer.error == (401, "invalid_api_key")  # and no 100 Continue before it
    assert bytes_held(rig) == 0


# -- the admin port -----------------------------------------------------------------------------


def change(token: str | None, target: str, **parts: Any) -> bytes:
    """A request with only a part of its body, which waits for 100 Continue."""
    headers = "Expect: 100-continue\r\n"
    return request_bytes(token, target=f"/admin/v1/{target}", headers=headers, body=b"", **parts)


async def test_bodies_of_the_admin_port_have_a_budget(rig: Rig) -> None:
    url, most = rig.gateway.admin_url, BODY_LIMITS.of_sender // MAX_BODY_BYTES
    assert BODY_LIMITS.of_sender * 2 <= BODY_LIMITS.in_all
    async with AsyncExitStack() as opened:
        for _ in range(most):
            connection = await opened.enter_async_context(wire(url))
            await connection.send(change(ADMIN_TOKEN, "teams", length=MAX_BODY_BYTES))
            assert (await connection.answer()).status == 100
        assert (await ask(url, change(ADMIN_TOKEN, "teams", length=2))).error == LIMITED
        # Somebody without a token can neither hold much nor is held up.
        answer = await ask(url, change(None, "session", length=MOST_SIGN_IN_BYTES + 1))
        assert answer.error == (413, "body_too_large")
        signed_in = await rig.ask_admin("POST", "session", None, json={"token": ADMIN_TOKEN})
        assert signed_in.status == 200
