"""The upstream's streams: split into events at any boundary, and made into a plain answer."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.quota.image_response import read_response
from gateway.upstream.events import (
    END,
    LARGE_BYTES,
    MAX_PARTIAL_BYTES,
    MAX_REST,
    MOST_LINES,
    EventReader,
    StreamedAnswer,
)
from gateway.upstream.port import Wanted

COMPLETED, PARTIAL = "image_generation.completed", "image_generation.partial_image"
USAGE = {
    "input_tokens": 10,
    "output_tokens": 100,
    "total_tokens": 110,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 0},
}
COMMON: dict[str, Any] = {
    "created_at": 7,
    "size": "1024x1024",
    "quality": "high",
    "background": "opaque",
}

Events = list[tuple[bytes, bytes]]


def split(chunks: Iterable[bytes]) -> Events:
    reader = EventReader()
    return [(name, b"".join(data)) for chunk in chunks for name, data in reader.feed(chunk)]


def event(kind: str = COMPLETED, *, named: bool = True, **data: Any) -> bytes:
    name = f"event: {kind}\n" if named else ""
    return f"{name}data: {json.dumps({'type': kind, **data})}\n\n".encode()


def collected(*events: bytes) -> tuple[StreamedAnswer, list[Any]]:
    """What a stream of these events leaves, and its partial images."""
    partial: list[Any] = []
    streamed = StreamedAnswer(Wanted(0, 2, lambda data: partial.append(json.loads(data))))
    feed(streamed, *events)
    return streamed, partial


def feed(streamed: StreamedAnswer, *chunks: bytes) -> None:
    for chunk in chunks:
        streamed.feed(chunk)
        while streamed.unread:
            streamed.take(streamed.found())


def answer(*events: bytes) -> Any:
    """The plain answer of these events."""
    return json.loads(collected(*events)[0].answer())


STREAM = (
    b": comment\n\n"
    b"event: one\r\nid: 1\r\ndata: {}\r\n\r\n"
    b"event:two\rdata:a\rdata: b\r\r"
    b"retry: 5\n\nevent: no data\n\n"
    b"data:  c\n\n"
    b"event: cut\ndata: d"
)
FOUND: Events = [(b"one", b"{}"), (b"two", b"a\nb"), (b"", b" c")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_a_stream_is_split_at_its_events_wherever_its_chunks_end(places: Sequence[int]) -> None:
    bounds = [0, *places, len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(bounds)]
    assert split(chunks) == FOUND
    assert split([*chunks, END]) == [*FOUND, (b"cut", b"d")]


def test_a_stream_of_too_many_lines_is_not_read_further() -> None:
    reader = EventReader()
    assert not list(reader.feed(b"\n" * MOST_LINES))
    assert not reader.is_full
    assert not list(reader.feed(b"data: x\n\n"))
    assert reader.is_full


def test_what_was_complete_before_the_limit_of_lines_counts() -> None:
    late = event(b64_json="Qg==")
    streamed, _ = collected(event(b64_json="QQ==") + b"\n" * MOST_LINES + late, late)
    assert streamed.is_over
    assert json.loads(streamed.answer()) == {"data": [{"b64_json": "QQ=="}]}


@pytest.mark.parametrize("named", [True, False])
def test_a_completed_event_becomes_the_plain_answer(named: bool) -> None:
    picture = {"b64_json": "QUJD", "revised_prompt": "A\ncat"}
    completed = event(named=named, **COMMON, **picture, usage=USAGE, new=[1])
    assert answer(completed) == {
        "created": 7,
        "data": [picture],
        "size": "1024x1024",
        "quality": "high",
        "background": "opaque",
        "new": [1],
        "usage": USAGE,
    }


@pytest.mark.parametrize("usage", [None, 5, {"input_tokens": 1.5}])
def test_the_usage_of_one_picture_stays_as_it_is(usage: Any) -> None:
    assert answer(event(b64_json="QQ==", usage=usage))["usage"] == usage


def test_the_tokens_of_all_pictures_are_added_up() -> None:
    two = answer(*(event(**COMMON, b64_json=data, usage=USAGE) for data in ("QQ==", "Qg==")))
    assert [item["b64_json"] for item in two["data"]] == ["QQ==", "Qg=="]
    assert two["usage"]["total_tokens"] == 220
    assert two["usage"]["input_tokens_details"] == {"text_tokens": 20, "image_tokens": 0}


@pytest.mark.parametrize("usage", [None, 5, {"input_tokens": "x"}, {"input_tokens": 1.5}, [USAGE]])
def test_tokens_that_one_picture_lacks_are_not_known(usage: Any) -> None:
    events = (event(b64_json="QQ==", usage=USAGE), event(b64_json="Qg==", usage=usage))
    assert "usage" not in answer(*events)
    assert "usage" not in answer(event(b64_json="QQ=="), events[0])


def test_pictures_that_differ_are_described_each() -> None:
    """A charge may depend on it: no size or quality may be that of one picture alone."""
    events = [event(**COMMON | {"size": size}, b64_json="QQ==") for size in ("1x1", "2x2")]
    two = answer(*events)
    assert "size" not in two
    assert [item["size"] for item in two["data"]] == ["1x1", "2x2"]
    assert two["quality"] == "high"


def test_pictures_in_other_fields_stay_with_their_own() -> None:
    uris = [f"data:image/png;base64,{data}" for data in ("QUFB", "QkJC")]
    two = answer(*(event(b64_json="QQ==", preview=uri) for uri in uris))
    assert [item["preview"] for item in two["data"]] == uris


def test_partial_images_are_passed_on_as_they_are() -> None:
    data = {**COMMON, "b64_json": "QUJD", "partial_image_index": 0, "more": {"a": [1]}}
    for named in (True, False):
        streamed, partial = collected(event(PARTIAL, named=named, **data))
        assert partial == [{"type": PARTIAL, **data}]
        assert (streamed.completed, streamed.answer()) == ([], b"")


def test_a_partial_image_is_one_line_of_json_or_none() -> None:
    lines: list[bytes] = []
    streamed = StreamedAnswer(Wanted(0, 9, lines.append))
    for data in (b'{"a":\n 1}', b"{", b"[1]", b'{"b64_json":"\x01"}', b"\xff"):
        lined = b"\ndata: ".join(data.split(b"\n"))
        feed(streamed, b"event: %b\ndata: %b\n\n" % (PARTIAL.encode(), lined))
    assert [line for line in lines if b"\n" in line] == []
    assert lines[0] == b'{"a":1}'
    assert streamed.completed == []


def test_partial_images_that_are_too_long_are_dropped() -> None:
    data = ["A" * size for size in (2 * LARGE_BYTES, MAX_PARTIAL_BYTES, 4)]
    _, partial = collected(*(event(PARTIAL, b64_json=each) for each in data))
    assert [each["b64_json"] for each in partial] == [data[0], data[2]]


def test_fields_that_take_long_to_parse_are_not_parsed_as_they_come() -> None:
    many: dict[str, Any] = dict.fromkeys(map(str, range(MAX_REST // 4)), 0)
    streamed, partial = collected(event(PARTIAL, b64_json="QQ==", **many))
    assert (partial, streamed.has_answer) == ([], False)
    assert answer(event(named=False, b64_json="QQ==", **many))["data"][0]["b64_json"] == "QQ=="
    error = event("error", error={"code": "x"}, **many)
    assert len(collected(error)[0].answer()) <= MAX_REST + 1


def test_a_deadline_loses_no_event_that_has_arrived() -> None:
    streamed = StreamedAnswer(Wanted())
    streamed.feed(event(PARTIAL, b64_json="A" * LARGE_BYTES) + event(b64_json="QQ=="))
    assert streamed.is_slow()
    assert streamed.has_answer
    assert json.loads(streamed.answer()) == {"data": [{"b64_json": "QQ=="}]}


def test_an_error_that_is_null_is_none() -> None:
    streamed, _ = collected(event("image_generation.started", error=None))
    assert not streamed.has_all


def test_what_comes_after_done_does_not_matter() -> None:
    streamed, _ = collected(event(b64_json="QQ=="), b"data: [DONE]\n\n")
    assert streamed.is_over
    assert len(streamed.completed) == 1


def test_other_events_are_ignored() -> None:
    others = (event("image_generation.started"), b"data: 5\n\n", b"data: x\n\n", b"event: e\n\n")
    assert collected(*others)[0].answer() == b""


@pytest.mark.parametrize("name", [b"", b"event: error\n"])
def test_an_error_counts_where_there_is_no_picture(name: bytes) -> None:
    error = name + b'data: {"error":{"message":"No.","code":"moderation_blocked"}}\n\n'
    assert answer(error)["error"]["code"] == "moderation_blocked"
    assert answer(event(b64_json="QQ=="), error) == {"data": [{"b64_json": "QQ=="}]}


def test_a_picture_with_faults_in_its_form_was_paid_for() -> None:
    faulty = b'event: %b\ndata: {"b64_json":"QQ==","size":NaN,}\n\n' % COMPLETED.encode()
    whole = collected(event(b64_json="Qg=="), faulty)[0].answer()
    assert read_response(whole).images == 2


def test_half_a_picture_is_none() -> None:
    cut = b'event: %b\ndata: {"b64_json":"QUJD' % COMPLETED.encode()
    assert answer(event(b64_json="QQ=="), cut, END)["data"] == [{"b64_json": "QQ=="}]
    assert collected(cut, END)[0].answer() == b""
