"""Strict reading over HTTP: each fault is a 400 with its code, costs nothing and is not echoed."""

import gzip
import json
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec.structs import replace

from gateway.core.model import Limits, UsageRow
from gateway.quota.account import Account
from tests.support.raw import RawAnswer, ask, chunked, request_bytes
from tests.support.rig import Rig, running_rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARK = f"mark-{secrets.token_hex(8)}"
"""Text in every body that must be in no answer."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One gateway for all tests: a refusal leaves nothing behind."""
    async with running_rig(tmp_path_factory.mktemp("rig")) as running:
        yield running


async def books(rig: Rig) -> tuple[int, UsageRow, Account]:
    """The purchases upstream and on record, without the count of refusals."""
    usage = replace(await rig.usage(), requests_refused=0)
    return rig.sandbox.counts.asked, usage, await rig.account()


async def refusal(rig: Rig, request: bytes) -> RawAnswer:
    """The answer, after checks that nothing was bought, recorded or echoed."""
    before = await books(rig)
    answer = await ask(rig.url, request)
    assert await books(rig) == before
    assert MARK not in str(answer)
    assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}
    return answer


def body_with(fields: str) -> bytes:
    return f'{{"prompt":"{MARK}",{fields}}}'.encode()


AMBIGUOUS = {
    "nothing": (b"", "empty_body"),
    "text": (MARK.encode(), "invalid_json"),
    "a form": (b"prompt=%s&n=1" % MARK.encode(), "invalid_json"),
    "a list": (b'["%s"]' % MARK.encode(), "not_an_object"),
    "a key twice": (body_with('"n":1,"n":2'), "duplicate_key"),
    "a key twice by escape": (body_with('"n":1,"\\u006e":1'), "duplicate_key"),
    "a key twice deep down": (body_with('"x":[{"a":{"b":1,"b":1}}]'), "duplicate_key"),
    "NaN in a list": (body_with('"x":[NaN]'), "invalid_number"),
    "1e400": (body_with('"x":1e400'), "invalid_number"),
    "5,000 digits as n": (body_with('"n":' + "1" * 5_000), "invalid_number"),
    "100,000 lists": (body_with('"x":' + "[" * 100_000 + "]" * 100_000), "too_deep"),
    "65 levels": (body_with('"x":' + "[" * 64 + "]" * 64), "too_deep"),
    "too many commas": (body_with('"x":[' + "0," * 60_000 + "0]"), "too_much_structure"),
    "a lone surrogate": (body_with('"x":"\\ud800"'), "invalid_encoding"),
    "invalid UTF-8": (b'{"prompt":"\xff"}', "invalid_encoding"),
    "UTF-16": (f'{{"prompt":"{MARK}"}}'.encode("utf-16"), "invalid_encoding"),
    "a byte order mark": (b"\xef\xbb\xbf" + body_with('"n":1'), "invalid_encoding"),
    "a second object": (body_with('"n":1') * 2, "invalid_json"),
    "cut off": (body_with('"n":1')[:-1], "invalid_json"),
}
"""One body for each cause. tests/core/test_strict_json.py has the rest."""


@pytest.mark.parametrize(("body", "code"), AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_a_body_that_two_readers_could_read_differently_is_refused(
    rig: Rig, body: bytes, code: str
) -> None:
    answer = await refusal(rig, request_bytes(await rig.key(), body=body))
    assert answer.error == (400, code)
    assert json.loads(answer.body)["error"]["param"] is None


BELOW, ABOVE, TYPE = "integer_below_min_value", "integer_above_max_value", "invalid_type"

WRONG_FIELDS = {
    "n 0": ('"n":0', "n", BELOW),
    "n 11": ('"n":11', "n", ABOVE),
    "n of 4,000 digits": ('"n":' + "9" * 4_000, "n", ABOVE),
    "n 1.0": ('"n":1.0', "n", TYPE),
    "n true": ('"n":true', "n", TYPE),
    "size a number": ('"size":1024', "size", TYPE),
    "size not by 16": ('"size":"1000x1000"', "size", "invalid_value"),
    "size too large": ('"size":"3840x3840"', "size", "invalid_value"),
    "size of 10,000 digits": (f'"size":"{"9" * 10_000}x1024"', "size", "invalid_value"),
    "size made up": (f'"size":"{MARK}"', "size", "invalid_value"),
    "model unknown": (f'"model":"{MARK}"', "model", "model_not_found"),
    "model a list": ('"model":["gpt-image-2"]', "model", TYPE),
    "quality a number": ('"quality":1', "quality", TYPE),
    "stream true": ('"stream":true', "stream", "unsupported_parameter"),
    "stream 1": ('"stream":1', "stream", "unsupported_parameter"),
}
"""One value for each cause. tests/proxy/test_image_request.py has the rest."""


@pytest.mark.parametrize(("fields", "param", "code"), WRONG_FIELDS.values(), ids=WRONG_FIELDS)
async def test_a_wrong_field_is_named(rig: Rig, fields: str, param: str, code: str) -> None:
    answer = await refusal(rig, request_bytes(await rig.key(), body=body_with(fields)))
    assert answer.error == (400, code)
    error = json.loads(answer.body)["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "missing_required_parameter"),
        ({"prompt": " \n\t\u3000"}, "empty_string"),
        ({"prompt": ["apple"]}, "invalid_type"),
        ({"prompt": "é" * 32_001}, "string_above_max_length"),
    ],
)
async def test_a_missing_or_wrong_prompt_is_named(
    rig: Rig, fields: dict[str, object], code: str
) -> None:
    body = json.dumps({"n": 1, **fields}).encode()
    answer = await refusal(rig, request_bytes(await rig.key(), body=body))
    assert answer.error == (400, code)
    assert json.loads(answer.body)["error"]["param"] == "prompt"


@pytest.mark.parametrize(
    "fields",
    [
        f'"prompt":"{"🍎" * 32_000}"',
        '"prompt":"apple","x":' + "[" * 63 + "]" * 63,
        '"prompt":"apple","x":' + "7" * 4_000,
        '"prompt":"apple","n":10',
        '"prompt":"apple","size":"3840x2160"',
        '"prompt":"apple","size":"1024x640"',
    ],
)
async def test_a_request_just_within_the_bounds_is_bought(rig: Rig, fields: str) -> None:
    key = await rig.key(cache=False)
    before, drawn = await rig.usage(), rig.sandbox.counts.images_drawn
    answer = await ask(rig.url, request_bytes(key, body=f"{{{fields}}}".encode()))
    assert answer.status == 200
    images = len(json.loads(answer.body)["data"])
    assert rig.sandbox.counts.images_drawn == drawn + images
    assert (await rig.usage()).images_bought == before.images_bought + images


# -- the body around the JSON -------------------------------------------------------------------

LARGE = body_with('"n":1') + b" " * 1_048_576


@pytest.mark.parametrize(
    ("body", "length", "headers"),
    [
        (LARGE, len(LARGE), ""),
        (b"", 2**62, ""),
        (chunked(LARGE), None, "Transfer-Encoding: chunked\r\n"),
        (chunked(*[LARGE[:65_536]] * 17), None, "Transfer-Encoding: chunked\r\n"),
    ],
    ids=["declared", "only declared", "one chunk", "many chunks"],
)
async def test_a_body_over_the_limit_is_413_however_it_is_declared(
    rig: Rig, body: bytes, length: int | None, headers: str
) -> None:
    request = request_bytes(await rig.key(), body=body, length=length, headers=headers)
    answer = await refusal(rig, request)
    assert answer.error == (413, "body_too_large")


@pytest.mark.parametrize("headers", ["", "Content-Length: 20\r\n", "Content-Length: 2000000\r\n"])
async def test_a_length_beside_chunks_is_no_request(rig: Rig, headers: str) -> None:
    lines = f"Transfer-Encoding: chunked\r\n{headers}"
    body = chunked(LARGE[:60_000], LARGE)
    request = request_bytes(await rig.key(), body=body, length=None, headers=lines)
    answer = await refusal(rig, request)
    assert answer.error == ((400, "invalid_http") if headers else (413, "body_too_large"))


async def test_a_wrong_length_buys_nothing(rig: Rig) -> None:
    body = body_with('"n":1')
    answer = await refusal(rig, request_bytes(await rig.key(), body=body, length=len(body) - 1))
    assert answer.status == 400


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*"],
)
async def test_another_content_type_is_415(rig: Rig, kind: str) -> None:
    request = request_bytes(await rig.key(), body=body_with('"n":1'))
    answer = await refusal(rig, request.replace(b"application/json", kind.encode()))
    assert answer.error == (415, "unsupported_content_type")


async def test_a_missing_content_type_is_415(rig: Rig) -> None:
    request = request_bytes(await rig.key(), body=body_with('"n":1'))
    answer = await refusal(rig, request.replace(b"Content-Type: application/json\r\n", b""))
    assert answer.error == (415, "unsupported_content_type")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_a_compressed_body_is_refused_and_never_inflated(rig: Rig, encoding: str) -> None:
    bomb = gzip.compress(bytes(50_000_000), 1)
    request = request_bytes(await rig.key(), body=bomb, headers=f"Content-Encoding: {encoding}\r\n")
    answer = await refusal(rig, request)
    assert answer.error == (415, "unsupported_content_type")


async def test_refusals_consume_no_limit(rig: Rig) -> None:
    key = await rig.key("other", limits=Limits(images_per_day=1, requests_per_minute=1))
    for body in (b"{", body_with('"n":0'), body_with('"stream":true')):
        await refusal(rig, request_bytes(key, body=body))
    assert (await rig.generate(key)).status == 200
