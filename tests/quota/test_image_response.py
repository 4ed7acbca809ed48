"""Reading the upstream's 200: images, URLs and usage. Junk is refused and breaks nothing."""

import base64
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.picture_spans import MAX_OBJECTS
from gateway.core.upstream_errors import UpstreamUnknown
from gateway.quota.image_response import (
    MAX_CHECKED_BYTES,
    MAX_USAGE_BYTES,
    MAX_WORD_BYTES,
    GivenImage,
    ImageResponse,
    read_response,
    read_sound_response,
)
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
    given = GivenImage(URL, has_base64=False), GivenImage("https://b", has_base64=True)
    assert answered == ImageResponse(given, "1024x1024", "low", usage)


@pytest.mark.parametrize("junk", [None, 5, True, [], {}, ["low"], "", "1" * 300])
def test_size_and_quality_of_another_type_are_ignored(junk: object) -> None:
    answered = read(data=[{"url": URL}], size=junk, quality=junk)
    assert answered == ImageResponse((GivenImage(URL, has_base64=False),), None, None)


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


PICTURE = {"url": "x"}
UNUSABLE = [
    b"",
    b"[]",
    b"{}",
    b"<html><style>p {x}</style>",
    b'{"data":[]}',
    b'{"data":[null]}',
    b'{"data":"x"}',
    b'{"images":[{"url":"x"}]}',
    b'[{"url":"x"}]',
    # Cut off: nobody knows what is missing.
    b'{"data":[{"url":"x"}]',
    b'{"data":[{"b64_json":"abc',
    b'{"data":[{"b64_json"}]}',
    b"{'data':[{'url':'x'}]}",
    b'{"x":' * 100_000,
    b'{"data":[{"url":"x","y":' + b"[" * 100_000 + b"]" * 99_999 + b"}]}",
]


@pytest.mark.parametrize("body", UNUSABLE)
def test_an_unusable_response(body: bytes) -> None:
    assert read_sound_response(body) is None
    with pytest.raises(UpstreamUnknown) as caught:
        read_response(body)
    assert caught.value.__context__ is None
    assert caught.value.upstream_status == 200


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
        (b'{"data":[{"b64_json":"b64_json"},{"b64_json":":"}]}', 2),
    ],
)
def test_images_among_other_things(body: bytes, images: int) -> None:
    answered = read_response(body)
    assert (answered.images, answered.reencoded) == (images, None)


# -- faults in the form -------------------------------------------------------------------------


def mended(body: bytes) -> tuple[Any, int]:
    """Return what a client reads of a response with faults, and how many images are charged."""
    assert read_sound_response(body) is None
    answered = read_response(body)
    assert answered.reencoded is not None
    assert read_sound_response(answered.reencoded) == replace(answered, reencoded=None)
    return json.loads(answered.reencoded), answered.images


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'\xef\xbb\xbf{"data":[{"url":"x"}]}', {"data": [PICTURE]}),
        ('{"data":[{"url":"x"}]}'.encode("utf-16"), {"data": [PICTURE]}),
        ('{"data":[{"url":"x"}],"é":"€"}'.encode("utf-32-be"), {"data": [PICTURE], "é": "€"}),
        (b'{"data":[{"url":"x"}],"x":"\xff"}', {"data": [PICTURE], "x": "\ufffd"}),
        (b')]}\'\n{"data":[{"url":"x"}]}\0\0', {"data": [PICTURE]}),
        (b'{"data":[{"url":"x"}]} {}', {"data": [PICTURE]}),
        (b'{"data":[{"url":"x"}]}</body>{{', {"data": [PICTURE]}),
        (b'{"x":NaN,"data":[{"url":"x","y":{"z":[-Infinity]}}]}',
         {"x": None, "data": [{"url": "x", "y": {"z": [None]}}]}),
        (b'{"x":1e999,"y":-1e999,"z":1e9,"data":[{"url":"x"}]}',
         {"x": None, "y": None, "z": 1e9, "data": [PICTURE]}),
        (b'{"x":' + b"9" * 5_000 + b',"data":[{"url":"x"}]}', {"x": None, "data": [PICTURE]}),
        (b'{"data":[{"url":"x",},],}', {"data": [PICTURE]}),
        (b'{"data":{"url":"x"}}', {"data": [PICTURE]}),
        (b'{"data":[null,{"url":"x"},"y",5,[{"url":"z"}]]}', {"data": [PICTURE]}),
        (b'{"data":[{"url":"x"}],"data":[]}', {"data": [PICTURE]}),
        (b'{"data":[{"url":"x"}],"created":1,"data":[{"url":"x"}],"created":null}',
         {"data": [PICTURE, PICTURE], "created": 1}),
        (b'{"data":[{"url":"x"}]}\n{"data":[{"url":"x"}]}\n', {"data": [PICTURE, PICTURE]}),
        (b'{"data":[{"b64_json":"a","b64_json":"b"}]}', {"data": [{"b64_json": "b"}]}),
        (b'{"data":[{"b64_json":"a","b64_json":null}]}', {"data": [{"b64_json": "a"}]}),
        (b'{"data":[{"b64_json":"a\nb"}]}', {"data": [{"b64_json": "a\nb"}]}),
        (b'{"data":[{"b64_json":"\\q\\\\q"}]}', {"data": [{"b64_json": "\\q\\q"}]}),
        (b'{"data":[{"b64_json":"a","p":"\\ud83d!"}]}', {"data": [{"b64_json": "a", "p": "?!"}]}),
    ],
)  # fmt: skip
def test_a_response_with_faults_is_read_and_reencoded(body: bytes, read: Any) -> None:
    assert mended(body) == (read, len(read["data"]))


def test_a_response_that_is_only_deep_is_passed_on_as_it_is() -> None:
    body = b'{"data":[{"url":"x"}],"y":' + b"[" * 200 + b"]" * 200 + b"}"
    assert read_response(body).reencoded is None


def test_levels_too_deep_to_read_become_null() -> None:
    read, images = mended(
        b'{"data":[{"y":' + b"[" * 100_000 + b"]" * 100_000 + b',"url":"x"}],"n":NaN}'
    )
    assert (images, read["data"][0]["url"], read["n"]) == (1, "x", None)


def test_images_come_through_as_they_were() -> None:
    images = [base64.b64encode(random.Random(n).randbytes(1_000 + n)).decode() for n in range(5)]
    items: list[Any] = [{"b64_json": image, "n": float("nan")} for image in images[:3]]
    items += [None, {"url": f"data:image/png;base64,{images[3]}"}, {"b64_json": images[4]}]
    read, count = mended(json.dumps({"data": items, "b64_json": images[0]}, indent=1).encode())
    assert count == 5
    for item in items[:3]:
        item["n"] = None
    assert read == {"data": [item for item in items if item], "b64_json": images[0]}


def test_a_response_with_faults_is_charged_by_its_own_words() -> None:
    body = json.dumps({"data": [PICTURE], "size": "1024x1024", "quality": "low", "usage": USED})
    answered = read_response(b"\xef\xbb\xbf" + body.encode())
    assert answered == replace(
        read_response(body.encode()), reencoded=body.replace(" ", "").encode()
    )


def test_a_data_uri_is_cut_short() -> None:
    answered = read(data=[{"url": f"data:image/png;base64,{IMAGE}"}, {"url": URL}])
    assert [len(image.url) for image in answered.given] == [6, len(URL)]


@pytest.mark.parametrize("more", [0, 1])
def test_only_a_rest_of_reasonable_length_is_checked(more: int) -> None:
    body = b'{"x":1,"x":2,"data":[{"url":"x"}],"y":"'
    body += b"y" * (MAX_CHECKED_BYTES - len(body) - 2 + more) + b'"}'
    assert (read_response(body).reencoded is None) == bool(more)


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
    given = tuple(
        GivenImage(text(item.get("url")) or "", has_base64=bool(text(item.get("b64_json"))))
        for item in answer["data"]
        if text(item.get("b64_json")) or text(item.get("url"))
    )
    if not given:
        with pytest.raises(UpstreamUnknown):
            read_response(body)
        return
    assert read_response(body) == ImageResponse(
        given,
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
        if answered.reencoded is None:
            assert json.loads(body)["data"]
        else:
            assert read_sound_response(answered.reencoded) == replace(answered, reencoded=None)


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


@pytest.mark.parametrize("field", [b'"b64_json":"', b'"url":"data:image/png;base64,'])
def test_a_large_answer_with_faults_takes_a_few_milliseconds_more(field: bytes) -> None:
    image = base64.b64encode(random.Random(1).randbytes(15_000_000))
    body = b'\xef\xbb\xbf{"created":1,"data":[null,{' + field + image + b'"}],"x":NaN}'
    times = []
    for _ in range(5):
        began = time.thread_time()
        assert read_response(body).images == 1
        times.append(time.thread_time() - began)
    # 10 and 20 ms where nothing else runs. If the image is not cut out, it takes 300.
    assert min(times) < 0.15


HOSTILE = {
    "items": b'{"data":[' + b'{"url":"x"},' * 500_000 + b'{"url":"x"}]}',
    "items without an image": b'{"data":[' + b"{}," * 5_000_000 + b'{"url":"x"}]}',
    "objects elsewhere": b'{"data":[{"url":"x"}],"x":[' + b"{}," * 500_000 + b"1]}",
    "strings elsewhere": b'{"data":[{"url":"x"}],"x":[NaN' + b',""' * 2_000_000 + b"]}",
    "escapes elsewhere": b'{"data":[{"url":"x"}],"x":NaN,"y":"' + rb"\q\\" * 1_000_000 + b'"}',
    "an open string": b'{"data":[{"url":"x"}],"x":NaN,"y":"' + rb"\"" * 400_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_too_much_structure_is_unusable(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(UpstreamUnknown):
        read_response(HOSTILE[name])
    # 10 and 30 ms; the first two took 1 s and 10 s.
    assert time.thread_time() - began < 0.4


def test_images_are_cut_out_before_the_rest_is_judged() -> None:
    crowded = b"{" * (MAX_OBJECTS + 1)
    image = b'{"b64_json":"' + crowded + b'"}'
    body = b'{"x":"\\\\",\n"data":[' + image + b"," + image + b'],\n"y":"\\\\"}'
    assert read_response(body).images == 2
    with pytest.raises(UpstreamUnknown):
        read_response(b'{"x":"' + crowded + b'","data":[' + image + b"]}")


def test_values_at_their_limits_are_read() -> None:
    word = "w" * (MAX_WORD_BYTES - 2)
    filled = len(json.dumps({**USED, "x": ""}))
    answered = read(
        data=[{"url": URL}],
        size=word,
        quality=word + "w",
        usage={**USED, "x": "x" * (MAX_USAGE_BYTES - filled)},
    )
    assert (answered.size, answered.quality) == (word, None)
    assert answered.usage == read_usage(USED)
    body = b'{"data":[{"url":"x"}],"x":[' + b"{}," * (MAX_OBJECTS - 2)
    assert read_response(body + b"1]}").images == 1
    with pytest.raises(UpstreamUnknown):
        read_response(body + b"{}]}")


def test_far_more_images_than_can_be_asked_for_are_read() -> None:
    most = MAX_OBJECTS - 1
    for item in ({"url": "x"}, {"b64_json": "aaaa"}):
        assert read(data=[item] * most).images == most
        with pytest.raises(UpstreamUnknown):
            read(data=[item] * (most + 1))


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
