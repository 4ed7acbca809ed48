"""The contract over HTTP: routes and bodies. `test_headers.py` has keys and headers."""

import gzip
import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.raw import PATH, ask, chunked, request_bytes
from tests.support.rig import FLAT, Rig, running_rig

DOCUMENTED = (
    b'{"model":"gpt-image-2","prompt":"A simple red apple on a white table, photorealistic",'
    b'"size":"1024x1024","n":1}'
)
JSON = {"Content-Type": "application/json"}


def received(rig: Rig) -> dict[str, Any]:
    """The body of the last request that arrived upstream."""
    body: dict[str, Any] = json.loads(rig.sandbox.counts.requests[-1].body)
    return body


# -- routes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/v1/images/generations", "/v1/images/generations"])
async def test_the_documented_request_works_on_both_paths(rig: Rig, path: str) -> None:
    answer = await ask(rig.url, request_bytes(await rig.key(), target=path, body=DOCUMENTED))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    image = json.loads(answer.body)
    assert image["created"] > 0
    assert len(image["data"]) == 1
    assert image["data"][0]["b64_json"]
    assert image["usage"]["total_tokens"] > 0
    assert received(rig) == json.loads(DOCUMENTED)


TWO_MODELS = """
[models."gpt-image-2"]
default = true
prices = 0.04
[models."house-style"]
prices = 0.01
"""


@pytest.mark.parametrize("path", ["/api/v1/models", "/v1/models"])
async def test_the_models_are_those_that_the_team_may_use(tmp_path: Path, path: str) -> None:
    async with running_rig(tmp_path, TWO_MODELS) as rig:
        everything = (await rig.get(path, await rig.key("a"))).json
        one = (await rig.get(path, await rig.key("b", models=("house-style", "gone")))).json
        none = (await rig.get(path, await rig.key("c", models=()))).json
        assert (await rig.get(path)).error == (401, "authentication_error", "invalid_api_key")
    assert everything["object"] == "list"
    assert [model["id"] for model in everything["data"]] == ["gpt-image-2", "house-style"]
    assert [model["id"] for model in one["data"]] == ["house-style"]
    assert none == {"object": "list", "data": []}
    assert everything["data"][0] == {
        "id": "gpt-image-2",
        "object": "model",
        "created": 0,
        "owned_by": "image-gateway",
    }


@pytest.mark.parametrize(
    "target",
    [
        "/v1/images/generations/",
        "//v1/images/generations",
        "/v1/../v1/images/generations",
        "/v1/%2e%2e/v1/images/generations",
        "/v1/images/generation%73",
        "/V1/images/generations",
        "/v1/images/generations;x=1",
        "/v1/images/generations%00",
        "/v1\\images\\generations",
        "/images/generations",
        "/v1/images/edits",
        "/v1/model/gpt-image-2",
        "/",
        "http://gateway/v1/../v1/images/generations",
        "http://gateway",
    ],
)
async def test_no_variant_of_a_route_reaches_anything(rig: Rig, target: str) -> None:
    key = await rig.key()
    for method in ("POST", "GET"):
        answer = await ask(rig.url, request_bytes(key, method=method, target=target))
        assert answer.error == (404, "not_found")
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
    assert rig.sandbox.counts.asked == 0


@pytest.mark.parametrize(
    "target", [f"{PATH}?a=b&c", f"{PATH}?", f"{PATH}?/../x", f"http://any.example:9{PATH}"]
)
async def test_a_query_and_the_absolute_form_are_the_same_route_and_are_charged(
    rig: Rig, target: str
) -> None:
    # A server must take the absolute form (RFC 9112, section 3.2.2); its host means nothing here.
    key = await rig.key()
    assert (await ask(rig.url, request_bytes(key, target=target))).status == 200
    assert rig.sandbox.counts.images_drawn == (await rig.usage()).images_bought == 1
    assert (await ask(rig.url, request_bytes(target=target))).status == 401


async def test_images_are_generated_by_post_and_models_read_by_get_alone(rig: Rig) -> None:
    key = await rig.key()
    posts, gets = ((PATH, "POST"), (f"/api{PATH}", "POST")), (("/v1/models", "GET, HEAD"),)
    for target, allowed in (*posts, *gets):
        methods = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE"}
        for method in methods - set(allowed.split(", ")):
            answer = await ask(rig.url, request_bytes(key, method=method, target=target))
            assert (answer.status, answer.headers["allow"]) == (405, allowed)
            assert method == "HEAD" or answer.error == (405, "method_not_allowed")
            assert "x-should-retry" not in answer.headers
    assert rig.sandbox.counts.asked == 0


@pytest.mark.parametrize(
    ("method", "target", "error"),
    [
        ("CONNECT", "any.example:443", (400, "invalid_http")),
        # Only CONNECT may have this form (RFC 9112, section 3.2.3).
        ("GET", "any.example:443", (400, "invalid_http")),
        ("OPTIONS", "*", (404, "not_found")),
    ],
)
async def test_the_gateway_is_not_a_forward_proxy(
    rig: Rig, method: str, target: str, error: tuple[int, str]
) -> None:
    answer = await ask(rig.url, request_bytes(await rig.key(), method=method, target=target))
    assert answer.error == error


# -- bodies -------------------------------------------------------------------------------------


async def test_the_configured_defaults_are_filled_in_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    defaults = '[models."gpt-image-2".defaults]\nn = 2\nsize = "1536x1024"\n'
    async with running_rig(tmp_path, FLAT + defaults) as rig:
        got = await rig.generate(await rig.key())
        assert len(got.json["data"]) == 2
        assert (received(rig)["n"], received(rig)["size"]) == (2, "1536x1024")
        assert (await rig.usage()).images_bought == 2


async def test_unknown_fields_go_upstream_with_equal_value(rig: Rig) -> None:
    further = (
        b'"quality":"high","user":null,"background":"opaque","output_format":"png",'
        b'"output_compression":100,"whole":1.0,"exp":1e3,"big":123456789012345678901234567890,'
        b'"text":"\\u00e9\\u0000\\ud83c\\udf4e/","list":[1,null,true,{"a":{}}],"":0,"m":3,"M":4'
    )
    body = b'{"prompt":"apple",' + further + b"}"
    got = await rig.post(await rig.key(), data=body, headers=JSON)
    assert got.status == 200
    sent, arrived = json.loads(body), received(rig)
    for name, value in sent.items():
        assert (arrived[name], type(arrived[name])) == (value, type(value))
    assert set(arrived) - set(sent) == {"model", "size", "n"}


async def test_the_upstreams_answer_comes_as_it_is(rig: Rig) -> None:
    body = (
        '{ "created":1, "data":[ {"url":"https://x.example/\\u00e9","b64_json":null} ],"new":1.0}'
    )
    rig.sandbox.fault = UpstreamFault(kind="status", status=200, body=body)
    got = await rig.generate(await rig.key())
    assert (got.status, got.body) == (200, body.encode())


MARK = f"mark-{secrets.token_hex(8)}"
"""Text in every refused body that must be in no answer."""


def body_with(fields: str) -> bytes:
    return f'{{"prompt":"{MARK}",{fields}}}'.encode()


LARGE = body_with('"n":1') + b" " * 1_048_576
CHUNKED = "Transfer-Encoding: chunked\r\n"
REFUSED: dict[str, tuple[dict[str, Any], int, str, str | None]] = {
    "nothing": ({"body": b""}, 400, "empty_body", None),
    "text": ({"body": MARK.encode()}, 400, "invalid_json", None),
    "a key twice": ({"body": body_with('"n":1,"n":2')}, 400, "duplicate_key", None),
    "invalid UTF-8": ({"body": b'{"prompt":"\xff"}'}, 400, "invalid_encoding", None),
    "too deep": (
        {"body": body_with('"x":' + "[" * 100_000 + "]" * 100_000)},
        *(400, "too_deep", None),
    ),
    "no prompt": ({"body": b"{}"}, 400, "missing_required_parameter", "prompt"),
    "n above": ({"body": body_with('"n":11')}, 400, "integer_above_max_value", "n"),
    "size": ({"body": body_with(f'"size":"{MARK}"')}, 400, "invalid_value", "size"),
    "model": ({"body": body_with(f'"model":"{MARK}"')}, 400, "model_not_found", "model"),
    "stream": ({"body": body_with('"stream":1')}, 400, "invalid_type", "stream"),
    "too large": ({"body": LARGE}, 413, "body_too_large", None),
    "said to be large": ({"body": b"", "length": 2**62}, 413, "body_too_large", None),
    "large in chunks": (
        {"body": chunked(*[LARGE[:65_536]] * 17), "length": None, "headers": CHUNKED},
        *(413, "body_too_large", None),
    ),
    "two lengths": (
        {"body": chunked(LARGE), "length": 20, "headers": CHUNKED},
        *(400, "invalid_http", None),
    ),
    "compressed": (
        {"body": gzip.compress(bytes(50_000_000), 1), "headers": "Content-Encoding: gzip\r\n"},
        *(413, "body_too_large", None),
    ),
    "compressed otherwise": (
        {"body": LARGE[:100], "headers": f"Content-Encoding: {MARK}\r\n"},
        *(415, "unsupported_content_type", None),
    ),
}
"""A request for each kind of fault. The tests of the files that find them have the rest."""


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refused_body_costs_nothing_and_is_not_echoed(rig: Rig, case: str) -> None:
    sent, status, code, param = REFUSED[case]
    key = await rig.key(limits=Limits(images_per_day=1, requests_per_minute=1))
    answer = await ask(rig.url, request_bytes(key, **sent))
    assert answer.error == (status, code)
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert MARK not in str(answer)
    assert "x-should-retry" not in answer.headers
    usage = await rig.usage()
    assert (rig.sandbox.counts.asked, usage.requests, usage.cost) == (0, 0, 0)
    assert (await rig.generate(key)).status == 200  # no limit was used


async def test_another_content_type_is_refused(rig: Rig) -> None:
    request = request_bytes(await rig.key())
    json_type = b"Content-Type: application/json\r\n"
    for line in (b"", b"Content-Type: text/plain\r\n", b"Content-Type: */*\r\n"):
        answer = await ask(rig.url, request.replace(json_type, line))
        assert answer.error == (415, "unsupported_content_type")
    assert rig.sandbox.counts.asked == 0


@pytest.mark.parametrize(
    "fields",
    [
        f'"prompt":"{"🍎" * 32_000}"',
        '"prompt":"apple","x":' + "[" * 63 + "]" * 63,
        '"prompt":"apple","n":10,"size":"3840x2160"',
    ],
)
async def test_a_request_just_within_the_bounds_is_bought(rig: Rig, fields: str) -> None:
    answer = await ask(rig.url, request_bytes(await rig.key(), body=f"{{{fields}}}".encode()))
    assert answer.status == 200
    images = len(json.loads(answer.body)["data"])
    assert rig.sandbox.counts.images_drawn == (await rig.usage()).images_bought == images
