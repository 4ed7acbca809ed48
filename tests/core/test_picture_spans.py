"""Where the pictures of an answer are, and that all else stays in its rest."""

import json

import pytest

from gateway.core.picture_spans import MarkedBody, picture_spans, without_pictures

PRETTY = rb"""{
  "a\tb": "c\nd",
  "data": [
    {"b64_json": "AAAA"},
    {"b64_json": null, "url": "data:image/png;base64,BB"},
    {"url": "data:E"},
    {"b64_json"
      : "CCC"}, {"b64_json": "D"}
  ],
  "e": "f\n"
}"""


def test_each_plain_picture_is_found() -> None:
    found = [PRETTY[start:end] for start, end in picture_spans(PRETTY)]
    assert found == [b"AAAA", b"image/png;base64,BB", b"E", b"CCC", b"D"]
    rest = json.loads(without_pictures(PRETTY))
    uri, plain = {"url": "data:."}, {"b64_json": "."}
    data = [plain, {"b64_json": None, **uri}, uri, plain, plain]
    assert rest == {"a\tb": "c\nd", "data": data, "e": "f\n"}


@pytest.mark.parametrize("text", ["", "\\\\", "A\\/A", "A\\", "A\n", "\nA"])
def test_an_empty_text_and_one_that_only_a_parser_reads_are_none(text: str) -> None:
    body = b'{"b64_json": "%b", "b64_json": "A"}' % text.encode()
    assert [body[start:end] for start, end in picture_spans(body)] == [b"A"]


def test_pictures_come_back_wherever_their_marks_are() -> None:
    marked = MarkedBody(PRETTY)
    assert marked.restored(marked.rest) == PRETTY
    data = json.loads(marked.rest)["data"]
    turned = marked.restored(json.dumps(data[::-1]).encode())
    assert json.loads(turned) == json.loads(PRETTY)["data"][::-1]
