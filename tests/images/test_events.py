"""An answer as events: every picture with all that OpenAI's clients read, one line each."""

import json
from typing import Any

import pytest
from msgspec import DecodeError

from gateway.core.model import ImageRequest
from gateway.images.events import completed_events, error_event
from tests.support.events import events_of

NOW = 1_000_000.7


def asking(**fields: Any) -> ImageRequest:
    """A request with these further fields."""
    size, quality = "1024x1024", fields.get("quality")
    return ImageRequest(model="m", prompt="p", size=size, n=1, quality=quality, body=fields)


USAGE = {
    "input_tokens": 5,
    "output_tokens": 100,
    "total_tokens": 105,
    "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
}


def shown(answer: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    """The events of an answer to a request with these further fields."""
    return events_of(completed_events(json.dumps(answer).encode(), asking(**body), NOW))


def test_a_picture_is_one_completed_event() -> None:
    answer = {
        "created": 7,
        "background": "opaque",
        "data": [{"b64_json": "QUJD", "revised_prompt": "A\ncat"}],
        "output_format": "webp",
        "quality": "low",
        "size": "1536x1024",
        "usage": USAGE,
    }
    assert shown(answer, quality="high", output_format="png", background="auto") == [
        {
            "type": "image_generation.completed",
            "b64_json": "QUJD",
            "revised_prompt": "A\ncat",
            "created_at": 7,
            "background": "opaque",
            "output_format": "webp",
            "quality": "low",
            "size": "1536x1024",
            "usage": USAGE,
        }
    ]


def test_what_the_answer_lacks_is_that_of_the_request() -> None:
    answer = {"data": [{"b64_json": "QUJD", "url": None}], "size": None}
    (bare,) = shown(answer)
    assert bare == {
        "type": "image_generation.completed",
        "b64_json": "QUJD",
        "created_at": 1_000_000,
        "background": "auto",
        "output_format": "png",
        "quality": "auto",
        "size": "1024x1024",
        "usage": None,
    }
    (full,) = shown(answer, quality="high", output_format="jpeg", background=["odd"])
    assert (full["quality"], full["output_format"], full["background"]) == ("high", "jpeg", "auto")


def test_the_sum_of_the_tokens_is_that_of_the_answer() -> None:
    answer = {"created": 7, "data": [{"b64_json": "QQ=="}, {}, {"url": "u"}], "usage": USAGE}
    first, last = shown(answer)
    assert (first["b64_json"], last["url"]) == ("QQ==", "u")
    assert "b64_json" not in last
    assert last["usage"] == USAGE
    assert first["usage"] == {
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    }


def test_each_event_has_one_line_of_data() -> None:
    """Whatever lines the answer has. A carriage return would end one, too."""
    picture = "QUJD" * 100
    body = json.dumps({"created": 7, "data": [{"b64_json": picture}]}, indent=2).encode()
    lines = completed_events(body.replace(b"\n", b"\r\n"), asking(), NOW).splitlines()
    assert len(lines) == 3
    assert json.loads(lines[1].removeprefix(b"data: "))["b64_json"] == picture
    broken = completed_events(body.replace(b"DQUJ", b"D\rQUJ", 5), asking(), NOW)
    assert events_of(broken)[0]["b64_json"] == picture


def test_an_answer_that_cannot_be_read_is_no_stream() -> None:
    with pytest.raises(DecodeError):
        completed_events(b"{", asking(), NOW)


def test_an_error_is_data_without_a_name() -> None:
    assert error_event(b'{"error":{}}') == b'data: {"error":{}}\n\n'
