"""The sandbox follows the API: responses, refusals and pictures."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.clocks import Clock
from tests.support.png import read_png
from tests.support.sandboxed import KEY, PATH, PROMPT, Asker, asking, dots, images

ZERO = Sandbox().counts.numbers()


def drawn(**settings: Any) -> Sandbox:
    return Sandbox(SandboxSettings(api_key=KEY, **settings))


# -- responses ----------------------------------------------------------------------------------


async def test_a_response_has_the_images_and_their_description() -> None:
    async with asking(drawn()) as asker:
        got = await asker.ask(size="1536x1024", n=2, quality="high", background="transparent")
        again, other = await asker.ask(size="1536x1024"), await asker.ask(PROMPT + ".")
        asker.sandbox.settings.picture = "dot"
        dot, other_dot = await asker.ask(size="1536x1024"), await asker.ask("b")
    assert got.status == 200
    assert got.headers["Content-Type"] == "application/json"
    answer = got.json
    pictures = images(got)
    assert [(png.width, png.height) for png in map(read_png, pictures)] == [(1536, 1024)] * 2
    assert images(again) == pictures[:1] != pictures[1:] != images(other)
    assert images(dot) == images(other_dot) != images(again)
    assert {**dot.json, "created": 0, "data": 0} == {**again.json, "created": 0, "data": 0}
    assert abs(answer.pop("created") - time.time()) < 60
    assert [set(image) for image in answer.pop("data")] == [{"b64_json"}] * 2
    assert answer == {
        "background": "transparent",
        "output_format": "png",
        "quality": "high",
        "size": "1536x1024",
        "usage": {
            "input_tokens": 12,
            "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
            "output_tokens": 14_048,
            "output_tokens_details": {"image_tokens": 14_048, "text_tokens": 0},
            "total_tokens": 14_060,
        },
    }


@pytest.mark.parametrize("value", [None, "auto"])
async def test_absent_and_auto_fields_get_defaults(asker: Asker, value: str | None) -> None:
    got = await asker.ask(size=value, quality=value, background=value, n=None)
    named = {name: got.json[name] for name in ("size", "quality", "background", "output_format")}
    assert named == {
        "size": "1024x1024",
        "quality": "medium",
        "background": "opaque",
        "output_format": "png",
    }
    assert len(got.json["data"]) == 1
    least = await asker.post(json={"prompt": PROMPT})
    assert {**least.json, "created": 0} == {**got.json, "created": 0}


async def test_further_fields_are_accepted(asker: Asker) -> None:
    got = await asker.ask(user="me", moderation=None, seed=[1, {"a": "b"}], output_format="webp")
    assert (got.status, got.json["output_format"]) == (200, "webp")


async def test_tokens_cost_no_more_than_the_price_table(asker: Asker) -> None:
    for quality, price in (("low", 0.006), ("medium", 0.053), ("high", 0.211)):
        for size in ("1024x1024", "1024x1536", "1536x1024", "3840x2160", "1408x480"):
            width, height = map(int, size.split("x"))
            usage = (await asker.ask("a", size=size, quality=quality)).json["usage"]
            assert 0 < usage["output_tokens"] * 30e-6 <= price * max(1, width * height / 1024**2)
            assert usage["input_tokens"] == 1


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": "gpt-image-1"}, "model", "model_not_found"),
        ({"model": 2}, "model", "invalid_type"),
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": ""}, "prompt", "empty_string"),
        ({"prompt": ["a"]}, "prompt", "invalid_type"),
        ({"prompt": "a" * 32_001}, "prompt", "string_above_max_length"),
        *(
            ({"size": size}, "size", "invalid_value")
            for size in (
                *("", "large", "1024", "1024X1024", "1024x1024 ", "01024x1024", "-1024x1024"),
                *("1024x1025", "1000x1000", "512x512", "3856x2160", "3840x3840", "3088x1024"),
                *("800x800", "0x0", "99999999x1024", "\u0661024x1024", "1024x1024\n"),
            )
        ),
        ({"size": 1024}, "size", "invalid_type"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 11}, "n", "integer_above_max_value"),
        ({"n": 10**30}, "n", "integer_above_max_value"),
        *(({"n": n}, "n", "invalid_type") for n in (1.0, 1.5, "1", True, [1])),
        ({"quality": "hd"}, "quality", "invalid_value"),
        ({"background": "blue"}, "background", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
    ],
)
async def test_an_invalid_field_is_refused_by_name(
    asker: Asker, fields: dict[str, Any], param: str, code: str
) -> None:
    got = await asker.post(json={"model": "gpt-image-2", "prompt": PROMPT, **fields})
    assert got.error == (400, "invalid_request_error", code)
    assert got.json["error"]["param"] == param
    assert asker.sandbox.counts.numbers() == {**ZERO, "asked": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a" * 32_000},
        {"prompt": " "},
        {"n": 10},
        *({"size": size} for size in ("3840x2160", "2160x3840", "3072x1024", "1024x640", "auto")),
    ],
)
async def test_the_limits_themselves_are_accepted(asker: Asker, fields: dict[str, Any]) -> None:
    assert (await asker.post(json={"prompt": PROMPT, **fields})).status == 200


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b'"a"', b'{"prompt":NaN}', b'{"prompt":"\xff"}', b"\xfe\xff"),
        *(b'{"prompt":"a"} x', b'{"a":' * 100_000, b'{"prompt":"\\ud800"}', b"PROMPT-CANARY"),
    ],
)
async def test_a_body_that_is_not_a_json_object_is_refused(asker: Asker, body: bytes) -> None:
    got = await asker.post(data=body)
    assert got.error == (400, "invalid_request_error", "invalid_json")
    assert b"CANARY" not in got.body


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
    ],
)
async def test_a_wrong_key_is_refused_and_counted(asker: Asker, headers: dict[str, str]) -> None:
    got = await asker.post(json={"prompt": PROMPT}, headers=headers)
    assert got.error == (401, "invalid_request_error", "invalid_api_key")
    assert got.json["error"]["param"] is None
    assert KEY.encode() not in got.body
    assert (await asker.call("GET", "/api/v1/models", headers=headers)).status == 401
    assert asker.sandbox.counts.numbers() == {**ZERO, "asked": 1}


async def test_without_its_own_key_it_accepts_any_key_but_not_a_missing_one() -> None:
    async with asking(Sandbox(dots(api_key=None))) as asker:
        body = {"prompt": PROMPT}
        headers = {"Authorization": "bearer anything at all"}
        assert (await asker.post(json=body, headers=headers)).status == 200
        assert (await asker.post(json=body, headers={})).status == 401


async def test_the_models_are_listed(asker: Asker) -> None:
    got = await asker.call("GET", "/api/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    assert got.json["object"] == "list"
    assert [model["id"] for model in got.json["data"]] == ["gpt-image-2"]
    assert asker.sandbox.counts.asked == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", PATH), ("POST", PATH + "/"), ("POST", PATH[4:]), ("DELETE", "/"), ("GET", "/files")],
)
async def test_other_routes_are_not_found(asker: Asker, method: str, path: str) -> None:
    got = await asker.call(method, path)
    assert got.error == (404, "invalid_request_error", "not_found")


# -- pictures by URL ----------------------------------------------------------------------------


async def test_an_answer_by_url_links_the_picture() -> None:
    async with asking(drawn(answer="both")) as asker:
        both = await asker.ask(n=2)
        asker.sandbox.settings.answer = "url"
        by_url = await asker.ask(n=2)
        for image, link, picture in zip(
            both.json["data"], by_url.json["data"], images(both), strict=True
        ):
            assert set(image) == {"b64_json", "url"}
            assert set(link) == {"url"}
            for url in (image["url"], link["url"]):
                got = await asker.fetch(url)
                assert (got.status, got.headers["Content-Type"]) == (200, "image/png")
                assert got.body == picture
    assert asker.sandbox.counts.images_delivered == 4


async def test_a_url_names_its_expiry_and_then_expires() -> None:
    clock = Clock(time.time)
    async with asking(Sandbox(dots(answer="url", url_ttl=90), clock=clock)) as asker:
        url = (await asker.ask()).json["data"][0]["url"]
        assert url.startswith(f"{asker.sandbox.url}/files/")
        (end,) = parse_qs(urlsplit(url).query)["se"]
        until = datetime.strptime(end, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        left = until - datetime.now(UTC)
        assert timedelta(seconds=85) < left <= timedelta(seconds=91)
        assert (await asker.fetch(url)).status == 200
        clock.ahead = 80
        assert (await asker.fetch(url)).status == 200
        clock.ahead = 92
        assert (await asker.fetch(url)).status == 403


async def test_a_url_cannot_be_changed(asker: Asker) -> None:
    asker.sandbox.settings.answer = "url"
    url = (await asker.ask()).json["data"][0]["url"]
    year = datetime.now(UTC).strftime("%Y-")
    assert PROMPT.lower() not in url.lower()
    assert KEY not in url
    for changed in (
        url.replace("1024x1024", "2048x2048"),
        url.replace(f"se={year}", "se=2999-"),
        url.replace("&sig=", "&sig=0"),
        url.partition("&")[0],
        url.partition("?")[0],
        f"{asker.sandbox.url}/files/x.png?se=x&sig=%C3%A9",
    ):
        assert changed != url
        assert (await asker.fetch(changed)).status == 403
