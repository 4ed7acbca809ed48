"""The public port as a whole: request ids, connections, limits, defects, and a team's reports."""

import asyncio
import dataclasses
import gc
import gzip
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.core.errors import GatewayError
from gateway.core.model import Limits
from gateway.tenants.directory import Directory
from tests.support.logs import logging_to
from tests.support.raw import BODY, ask, request_bytes, wire
from tests.support.rig import Rig, running_rig
from tests.support.serving import serving
from tests.support.steps import until


def counted(rig: Rig, outcome: str, team: str = "team") -> float | None:
    labels = {"team": team, "outcome": outcome}
    return rig.gateway.metrics.registry.get_sample_value("gateway_requests_total", labels)


async def test_a_valid_request_id_is_kept_and_any_other_replaced(rig: Rig) -> None:
    """On errors, too, and towards the upstream."""
    key = await rig.key()
    for sent, pattern in (("mine", "mine"), ("sk-gw-abc", "[0-9a-f]{32}")):
        for target in ("/v1/images/generations", "/v1/models", "/nothing"):
            request = request_bytes(key, target=target, headers=f"X-Request-Id: {sent}\r\n")
            answer = await ask(rig.url, request)
            assert re.fullmatch(pattern, answer.headers["x-request-id"]), target
    assert rig.sandbox.counts.requests[0].headers["x-request-id"] == "mine"


async def test_a_connection_stays_after_errors(rig: Rig) -> None:
    key = await rig.key()
    async with wire(rig.url) as connection:
        for request, status in (
            (request_bytes(), 401),
            (request_bytes(key, body=b"{"), 400),
            (request_bytes(key, target="/nothing"), 404),
            (request_bytes(key, method="PUT"), 405),
            (request_bytes(key).replace(b"application/json", b"text/plain"), 415),
            (request_bytes(key), 200),
        ):
            await connection.send(request)
            assert (await connection.answer()).status == status


async def test_a_refused_request_leaves_nothing_for_the_garbage_collector(rig: Rig) -> None:
    """Else a team that is refused all the time delays everybody by 50 ms, again and again."""
    key = await rig.key(limits=Limits(images_per_day=0))

    async def refuse() -> None:
        assert (await rig.generate(key, None)).status == 429

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(20):
            await refuse()
        gc.collect()
        assert not [each for each in gc.garbage if isinstance(each, GatewayError)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_pipelined_requests_are_answered_in_order(rig: Rig) -> None:
    key = await rig.key()
    models = request_bytes(key, method="GET", target="/v1/models", body=b"", length=None)
    async with wire(rig.url) as connection:
        await connection.send(request_bytes(key) + models + request_bytes() + request_bytes(key))
        answers = [await connection.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 401, 200]
    assert answers[3].headers["cache-status"] == "gateway; hit"


async def test_a_body_that_is_too_slow_or_too_large_closes_the_connection(rig: Rig) -> None:
    key = await rig.key()
    settings = rig.gateway.settings
    rig.gateway.use(replace(settings, server=replace(settings.server, body_seconds=0.3)))
    for body, length, error in (
        (BODY[:5], len(BODY), (400, "body_timeout")),
        (BODY, 2_000_000, (413, "body_too_large")),
    ):
        async with wire(rig.url) as connection:
            await connection.send(request_bytes(key, body=body, length=length))
            answer = await connection.answer(seconds=1)
            assert answer.error == error
            assert answer.headers["connection"] == "close"
            assert await connection.rest() == b""
    assert rig.sandbox.counts.asked == 0


async def test_a_client_that_leaves_during_its_body_costs_nothing(rig: Rig) -> None:
    key = await rig.key()
    async with wire(rig.url) as connection:
        await connection.send(request_bytes(key, body=BODY[:5], length=len(BODY)))
        await asyncio.sleep(0.05)
        assert rig.gateway.proxy.in_flight == 0  # it takes no room until it is whole
    await until(lambda: counted(rig, "client_closed") == 1)
    assert rig.gateway.proxy.in_flight == 0
    assert rig.sandbox.counts.asked == 0
    assert (await rig.usage()).requests == 0


async def test_a_compressed_request_is_the_same_as_a_plain_one(rig: Rig) -> None:
    key = await rig.key()
    packed = gzip.compress(b"\xef\xbb\xbf" + BODY)
    bought = await ask(
        rig.url, request_bytes(key, body=packed, headers="Content-Encoding: gzip\r\n")
    )
    assert (bought.status, rig.sandbox.counts.requests[0].body[:24]) == (200, BODY[:-1] + b",")
    hit = await ask(rig.url, request_bytes(key))
    assert (hit.headers["cache-status"], hit.body) == ("gateway; hit", bought.body)
    assert rig.gateway.public.bodies.total == 0


async def test_a_defect_is_answered_without_detail(rig: Rig) -> None:
    public = rig.gateway.public
    api = dataclasses.replace(public, directory=cast(Directory, None), new_id=lambda: "made-up")
    models = request_bytes(await rig.key(), method="GET", target="/v1/models", body=b"")
    with capture_logs() as lines:
        async with serving(api.handle) as url, wire(url) as connection:
            for _ in range(2):
                await connection.send(models)
                answer = await connection.answer()
                assert answer.error == (500, "internal_error")
                assert answer.headers["x-should-retry"] == "false"
                assert answer.headers["x-request-id"] == "made-up"
                assert b"NoneType" not in answer.body
    own = [line for line in lines if line.get("id") == "made-up"]
    assert [line["event"] for line in own] == ["request failed", "request"] * 2
    assert own[1]["outcome"] == "internal_error"


async def test_a_broken_log_stream_does_not_fail_requests(rig: Rig) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    key = await rig.key()
    closed = os.fdopen(writer, "w", closefd=False)
    with suppress(BrokenPipeError), closed as stream, logging_to(stream):
        assert (await rig.generate(key)).status == 200
        assert (await rig.generate("wrong")).status == 401
    os.close(writer)


async def test_bodies_have_the_configured_limit(tmp_path: Path) -> None:
    async with running_rig(tmp_path, SERVER_MAX_BODY_BYTES="1024") as rig:
        key = await rig.key()
        just = BODY + b" " * (1024 - len(BODY))
        assert (await ask(rig.url, request_bytes(key, body=just))).status == 200
        answer = await ask(rig.url, request_bytes(key, body=just + b" "))
        assert answer.error == (413, "body_too_large")
        assert b"1024 bytes" in answer.body


# -- what a team reads about itself -------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
async def test_a_team_sees_its_usage_and_its_remaining_quota(rig: Rig, prefix: str) -> None:
    key = await rig.key("red", limits=Limits(images_per_day=5))
    other = await rig.key("blue", limits=Limits(images_per_day=9))
    own = await rig.further_key("red", limits=Limits(images_per_month=2))
    for caller in (key, own, other):
        assert (await rig.generate(caller, None)).status == 200
    assert (await rig.generate(key, "kept")).status == (await rig.generate(key, "kept")).status
    quota = await rig.get(f"{prefix}/quota", key)
    (state,) = quota.json["limits"]
    assert (quota.json["team"], quota.json["key"]) == ("red", None)
    assert (state["limit"], state["used"], state["remaining"]) == ("images_per_day", 3, 2)
    mine = (await rig.get(f"{prefix}/quota", own)).json["key"]
    assert [(one["limit"], one["remaining"]) for one in mine["limits"]] == [("images_per_month", 1)]
    usage = await rig.get(f"{prefix}/usage?by=day,model", key)
    assert usage.json["team"] == "red"
    (row,) = usage.json["usage"]
    assert (row["images_bought"], row["images_cached"], row["requests"]) == (3, 1, 4)
    assert b"blue" not in quota.body + usage.body


async def test_a_team_cannot_query_more(rig: Rig) -> None:
    key = await rig.key()
    for query in ("team=blue", "by=team", "from=2001-01-01", "format=csv"):
        got = await rig.get(f"/v1/usage?{query}", key)
        assert got.error == (400, "invalid_request_error", "invalid_fields"), query
