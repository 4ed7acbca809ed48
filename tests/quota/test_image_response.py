"""Reading the upstream's 200: images, URLs and usage. Junk is refused and breaks nothing."""

import base64
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import UpstreamUnknown
from gateway.quota.image_response import MAX_IMAGES, MAX_WORD_BYTES, ImageResponse, read_response
from gateway.quota.token_usage import NO_USAGE, Usage, read_usage

IMAGE = base64.b64encode(bytes(range(256)) * 3).decode()
URL = "https://images.example.com/a.png?se=2030-01-01"


def read(**fields: Any) -> ImageResponse:
    return read_response(json.dumps(fields).encode())


USED = {"input_tokens": 7, "output_tokens": 196, "total_tokens": 203}


def test_a_response_is_read_in_full() -> None:
    items = [{"url": URL}, {"url": "https://b", "b64_json": IMAGE, "revised_prompt": "x"}]
    usage = Usage(unnamed_input=7, image_output=196, sound=True)
    answered = read(data=items, size="1024x1024", quality="low", usage=USED)
    assert answered == ImageResponse(2, (URL, "https://b"), "1024x1024", "low", usage)


@pytest.mark.parametrize("junk", [None, 5, True, [], {}, ["low"], "", "1" * 300])
def test_size_and_quality_of_another_type_are_ignored(junk: object) -> None:
    answered = read(data=[{"url": URL}], size=junk, quality=junk)
    assert answered == ImageResponse(1, (URL,), None, None)


@pytest.mark.parametrize("item", [{}, {"url": None}, {"url": ""}, {"b64_json": ""}, {"url": 5}])
def test_an_item_without_an_image_does_not_count(item: dict[str, Any]) -> None:
    assert read(data=[item, {"b64_json": IMAGE}]).images == 1
    with pytest.raises(UpstreamUnknown):
        read(data=[item])


@pytest.mark.parametrize(
    "junk", [None, "x", [], {"a": [1]}, {"output_tokens": -1}, {**USED, "x": [1] * 10_000}]
)
def test_usage_without_plausible_counts_is_ignored(junk: object) -> None:
    assert read(data=[{"url": URL}]).usage == NO_USAGE
    assert read(data=[{"url": URL}], usage=junk).usage == NO_USAGE


@pytest.mark.parametrize("inner", [b"9" * 5_000, b"1e999", b"[" * 900 + b"]" * 900])
def test_usage_that_the_parser_refuses_is_ignored(inner: bytes) -> None:
    body = b'{"data":[{"url":"x"}],"usage":{"x":' + inner + b"}}"
    assert read_response(body).usage == NO_USAGE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b'{"data":[]}',
        b'{"data":[null]}',
        b'{"data":[{"url":"x"}],"data":[]}',
        b'{"data":[{"url":"x"}]} {}',
        b'{"data":[{"url":"x"}]',
        b'{"data":[{"b64_json":"abc',
        b'{"data":[{"b64_json":"a\nb"}]}',
        b'{"data":[{"b64_json":"a\\qb"}]}',
        b'{"data":[{"b64_json"}]}',
        b'{"data":[{"b64_json":"abc"}],"x":"\xff"}',
        b'\xef\xbb\xbf{"data":[{"url":"x"}]}',
        '{"data":[{"url":"x"}]}'.encode("utf-16"),
        b'{"x":' * 100_000,
        b'{"data":[{"url":"x","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
)
def test_an_unusable_response(body: bytes) -> None:
    with pytest.raises(UpstreamUnknown) as caught:
        read_response(body)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("body", "images"),
    [
        # Blanks, escapes, quotes and look-alikes around and in images.
        (b'{"data" : [ { "b64_json" \t:\r\n "YWJj" } ] }', 1),
        (b'{"data":[{"b64_json":"a\\/b"},{"b64_json":"c"}]}', 2),
        (b'{"data":[{"b64_json":"a\\"b"},{"b64_json":"c"}]}', 2),
        (b'{"data":[{"b64_json":"\\""}]}', 1),
        (b'{"data":[{"b64_json":"\\\\"}],"x":"\\"b64_json\\":\\"y"}', 1),
        (b'{"x":"b64_json","b64_json":"y","data":[{"url":"z"}]}', 1),
        (b'{"x":["b64_json","b64_json"],"data":[{"b64_json":null},{"url":"z"}]}', 1),
        (b'{"b64_json":["b64_json"],"data":[{"b64_json":""},{"b64_json":"z"}]}', 1),
        (b'{"data":[{"b64_json":"","x":"a"},{"b64_json":"z"}]}', 1),
        (b'{"data":[{"b64_\\u006ason":"abc"}]}', 1),
        (b'{"data":[{"b64_json":"a","b64_json":"b"}]}', 1),
        (b'{"data":[{"b64_json":"a","b64_json":null,"url":"b"}]}', 1),
        (b'{"data":[{"b64_json":"b64_json"},{"b64_json":":"}]}', 2),
    ],
)
def test_images_among_other_things(body: bytes, images: int) -> None:
    assert read_response(body).images == images


TEXT = st.text(max_size=8) | st.sampled_from(["b64_json", '"b64_json":"', '"', "\\", IMAGE])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ITEMS = st.lists(
    st.fixed_dictionaries({}, optional={"b64_json": JSON, "url": JSON, "revised_prompt": JSON}),
    max_size=4,
)


@given(
    st.fixed_dictionaries(
        {"data": ITEMS},
        optional={"size": JSON, "quality": JSON, "x": JSON, "usage": st.just(USED) | JSON},
    ),
    st.booleans(),
    st.sampled_from([None, 2]),
)
def test_reads_the_same_as_the_standard_library(
    answer: dict[str, Any], ascii: bool, indent: int | None
) -> None:
    def text(value: object) -> str | None:
        return value if isinstance(value, str) and value else None

    def word(value: object) -> str | None:
        word = text(value)
        return None if word is None or len(word) > MAX_WORD_BYTES else word

    body = json.dumps(answer, ensure_ascii=ascii, indent=indent).encode()
    images = sum(bool(text(i.get("b64_json")) or text(i.get("url"))) for i in answer["data"])
    if not images:
        with pytest.raises(UpstreamUnknown):
            read_response(body)
        return
    urls = tuple(url for item in answer["data"] if (url := text(item.get("url"))))
    assert read_response(body) == ImageResponse(
        images,
        urls,
        word(answer.get("size")),
        word(answer.get("quality")),
        read_usage(answer.get("usage")),
    )


@given(st.binary(max_size=60), st.integers(0, 60))
def test_bytes_of_any_kind(junk: bytes, at: int) -> None:
    # The content of a plain image is not checked, so it is left out here.
    whole = b'{"data":[{"b64_json":"","url":"x"}],"size":"y"}'
    for body in (junk, whole[:at] + junk + whole[at:]):
        if b'"b64_json":"' + junk in body:
            continue
        try:
            answered = read_response(body)
        except UpstreamUnknown:
            continue
        assert answered.images >= 1
        json.loads(body.decode(), strict=False)


def test_a_large_answer_takes_a_few_milliseconds() -> None:
    image = base64.b64encode(random.Random(1).randbytes(15_000_000))
    body = b'{"created":1,"data":[{"b64_json":"' + image + b'"}],"size":"1024x1024"}'
    times = []
    for _ in range(5):
        began = time.thread_time()
        assert read_response(body).images == 1
        times.append(time.thread_time() - began)
    # 2 ms where nothing else runs; the parser alone takes 12.
    assert min(times) < 0.01


HOSTILE = {
    "items": b'{"data":[' + b'{"url":"x"},' * 500_000 + b'{"url":"x"}]}',
    "items without an image": b'{"data":[' + b"{}," * 5_000_000 + b'{"url":"x"}]}',
    "objects elsewhere": b'{"data":[{"url":"x"}],"x":[' + b"{}," * 20_000 + b"1]}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_too_much_structure_is_unusable(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(UpstreamUnknown):
        read_response(HOSTILE[name])
    # 10 and 30 ms; the first two took 1 s and 10 s.
    assert time.thread_time() - began < 0.4


def test_as_many_images_as_can_be_asked_for_are_read() -> None:
    for item in ({"url": "x"}, {"b64_json": IMAGE}):
        assert read(data=[item] * MAX_IMAGES).images == MAX_IMAGES
        with pytest.raises(UpstreamUnknown):
            read(data=[item] * (MAX_IMAGES + 1))


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"b64_json"' + b" " * 16_000_000 + b':"aaaa"}]}',
        b'{"data":[{"url":"x"}],"x":[' + b'"b64_json",' * 1_500_000 + b"1]}",
    ],
    ids=["blanks", "names"],
)
def test_skipping_takes_little_time(body: bytes) -> None:
    began = time.thread_time()
    assert read_response(body).images == 1
    # 60 and 100 ms; one by one 2 s and 0.8 s.
    assert time.thread_time() - began < 0.5
