"""Reasons of the upstream never show the texts of a request."""

import json
from html import escape
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import ImageRequest
from gateway.core.redaction import RUN
from gateway.telemetry.reasons import MOST_CHARS, REASON_CHARS, shown_reason

PROMPT = 'A red "Apple",\non a white table: 50% café\\photo'


def request(prompt: str = PROMPT, **fields: Any) -> ImageRequest:
    body = {"model": "gpt-image-2", "prompt": prompt, "size": "1024x1024", "n": 1, **fields}
    return ImageRequest(
        model="gpt-image-2", prompt=prompt, size="1024x1024", n=1, quality=None, body=body
    )


ECHOES = {
    "as it is": PROMPT,
    "in capitals": PROMPT.upper(),
    "cut at both ends": PROMPT[5:20],
    "with other white space": " \t ".join(PROMPT.split(" ")),
    "with other marks": PROMPT.replace('"', "'").replace(":", ";"),
    "as JSON": json.dumps(PROMPT),
    "as JSON in JSON": json.dumps(json.dumps(PROMPT)),
    "as repr": repr(PROMPT),
    "in a URL": quote(PROMPT),
    "in HTML": escape(PROMPT),
    "in letters alone": "".join(filter(str.isalnum, PROMPT)),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_an_echo_of_the_prompt_is_redacted(echo: str) -> None:
    shown = shown_reason(f"Not drawn: <<{echo}>>. See the rules.", request())
    assert shown.startswith("Not drawn: <<")
    assert shown.endswith(">>. See the rules.")
    echoed = shown.removeprefix("Not drawn: <<").removesuffix(">>. See the rules.")
    rest = "".join(filter(str.isalnum, echoed.replace("[redacted]", " "))).casefold()
    # Fewer than 8 characters may be left at an end.
    assert all(word not in rest for word in ("apple", "table", "photo"))


def test_a_prompt_that_looks_like_escapes_is_redacted() -> None:
    prompt = r"\nab\tcd\nef\u0041 %41"
    for echo in (prompt, json.dumps(prompt), quote(prompt)):
        shown = shown_reason(f"Not <{echo}>", request(prompt))
        assert shown.replace(" ", "").replace('"', "") == "Not<[redacted]>"


def test_an_escaped_prompt_of_any_script_is_redacted() -> None:
    prompt = "りんごの写真を一枚 🍎𠀋𠀋𠀋"
    for echo in (prompt, json.dumps(prompt), quote(prompt)):
        shown = shown_reason(f"Not {echo}!", request(prompt))
        assert not set(prompt) & set(shown) - {" "}


def test_only_the_shared_runs_are_redacted() -> None:
    reason = "Unknown parameter: 'response_format', and gpt-image-2 draws no 1024x1024 here."
    fields = {"response_format": "b64_json", "background": "transparent"}
    assert shown_reason(reason, request(**fields)) == reason
    assert shown_reason("An app on a white tablet", request()) == "An app[redacted]t"


def test_a_short_prompt_is_redacted_where_it_stands_alone() -> None:
    reason = "'A cat' is not allowed: a cat is in the catalog of a catwalk."
    shown = "'[redacted]' is not allowed: [redacted] is in the catalog of a catwalk."
    assert shown_reason(reason, request("a cat")) == shown


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "Alice@example.com"},
        {"extra": {"inner": [1, {"note": "For alice@example.com"}]}},
        {"extra": {"prompt": "of alice@example.com"}},
        {"alice@example.com": True},
    ],
)
def test_other_texts_of_the_request_are_redacted(fields: dict[str, Any]) -> None:
    shown = shown_reason("No alice@example.com.", request(**fields))
    assert shown in ("No[redacted].", "No [redacted].")


def test_a_request_with_too_much_text_shows_no_reason() -> None:
    long = "x" * (MOST_CHARS // 2)
    assert shown_reason("No.", request(long)) == "No."
    assert shown_reason("No.", request(long, user=long, other="Y")) == "[redacted]"


def test_a_reason_is_one_line_of_bounded_length() -> None:
    assert shown_reason("No\r\n\tway\x1b[2J\u202e out\\u001b.", request()) == "No way [2J out ."
    assert shown_reason("z9 " * 200, request()) == ("z9 " * 200)[:REASON_CHARS]


texts = st.text(st.sampled_from('aAbß é"\\\n u0%&') | st.characters(), max_size=40)


@given(texts, texts, st.integers(0, 39), st.integers(0, 40), texts)
def test_no_run_of_a_prompt_comes_out(
    prompt: str, before: str, start: int, end: int, after: str
) -> None:
    shown = shown_reason(before + prompt[start:end] + after, request(prompt))
    assert shown.isprintable()
    folded, own = shown.casefold(), prompt.casefold()
    runs = {own[at : at + RUN] for at in range(len(own) - RUN + 1)}
    found = {folded[at : at + RUN] for at in range(len(folded) - RUN + 1)}
    assert {run for run in runs & found if run not in "[redacted]"} == set()
