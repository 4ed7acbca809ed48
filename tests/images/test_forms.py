"""Which fields of an answer each form shows, and that the rest of it stays as it is."""

import base64
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Bought, Deliver, Picture
from gateway.images.forms import (
    SHOWN_SECONDS,
    is_ready,
    picture_bytes,
    render,
    wants_link,
    with_base64,
)

NOW = 1_000_000.0
BASE64 = base64.b64encode(b"a picture").decode()
URL = "https://upstream.example/a.png?sig=1"
LINK = "https://gateway.example/name.png"
FORMS: tuple[Deliver, ...] = get_args(Deliver)

HELD = Picture()
KEPT = Picture(name="name.png")
LASTING = Picture(name="name.png", has_url=True, until=NOW + SHOWN_SECONDS)
ENDING = Picture(name="name.png", has_url=True, until=NOW + SHOWN_SECONDS - 1)
FETCHED = Picture(name="name.png", has_url=True, until=NOW + SHOWN_SECONDS, fetched=True)
ENDING_FETCHED = Picture(name="name.png", has_url=True, until=NOW, fetched=True)
ENDING_ALONE = Picture(has_url=True, until=NOW, fetched=True)
LOST = Picture(has_url=True, until=NOW + SHOWN_SECONDS)  # its URL could not be fetched
EMBEDDED = Picture(name="name.png", has_url=True, fetched=True)

B, U, DATA = {"b64_json": BASE64}, {"url": URL}, {"url": f"data:image/png;base64,{BASE64}"}
L = {"url": LINK}


def bought(picture: Picture, item: dict[str, Any]) -> Bought:
    body = json.dumps({"created": 1, "data": [item]}).encode()
    return Bought(body=body, images=1, cost=1, at=NOW, pictures=(picture,))


def shown(picture: Picture, item: dict[str, Any], form: Deliver) -> dict[str, Any]:
    body = render(bought(picture, item), form, lambda name: f"https://gateway.example/{name}", NOW)
    (found,) = json.loads(body)["data"]
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("picture", "item", "auto", "b64_json", "url", "both", "upstream"),
    [
        (HELD, B, B, B, B, B, B),
        (KEPT, B, B, B, L, B | L, B),
        (LASTING, B | U, B | U, B, U, B | U, B | U),
        (ENDING, B | U, B | L, B, L, B | L, B | L),
        (FETCHED, B | U, B | U, B, U, B | U, U),
        (ENDING_FETCHED, B | U, B | L, B, L, B | L, L),
        (ENDING_ALONE, B | U, B, B, B, B, B),
        (LOST, U, U, U, U, U, U),
        (EMBEDDED, B | DATA, B | DATA, B, DATA, B | DATA, DATA),
    ],
)
def test_the_fields_of_each_form(
    picture: Picture,
    item: dict[str, Any],
    auto: dict[str, Any],
    b64_json: dict[str, Any],
    url: dict[str, Any],
    both: dict[str, Any],
    upstream: dict[str, Any],
) -> None:
    table: dict[Deliver, dict[str, Any]] = {"auto": auto, "b64_json": b64_json, "url": url}
    table |= {"both": both, "upstream": upstream}
    for form, expected in table.items():
        assert shown(picture, item, form) == expected, form
        if is_ready([picture], form, NOW):
            assert expected == item, f"{form} was taken for ready"
        if expected.get("url") == LINK:
            assert wants_link(picture, form, NOW)


@pytest.mark.parametrize("form", FORMS)
def test_no_link_where_none_can_be_made(form: Deliver) -> None:
    assert json.loads(render(bought(KEPT, B), form, None, NOW))["data"] == [B]


def test_base64_alone_is_ready_without_a_look() -> None:
    for form in FORMS:
        assert is_ready([KEPT, HELD], form, NOW) == (form not in ("url", "both"))


def test_further_pictures_than_are_known_stay_as_they_are() -> None:
    whole = Bought(body=json.dumps({"data": [B, B | U]}).encode(), images=2, cost=1, at=NOW)
    assert json.loads(render(whole, "url", None, NOW))["data"] == [B, U]


def test_an_answer_with_faults_stays_as_it_is() -> None:
    body = json.dumps({"data": [B | U], "x": float("nan")}).encode()
    whole = Bought(body=body, images=1, cost=1, at=NOW, pictures=(LASTING,))
    assert render(whole, "b64_json", None, NOW) == with_base64(body, {0: b"x"}) == body
    assert picture_bytes(body, {0}) == {}


TEXT = st.text(max_size=8) | st.sampled_from(["b64_json", '"b64_json":"', '"', "\\", BASE64])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "b64_json": st.sampled_from([BASE64, "", None]),
        "url": st.sampled_from([URL, DATA["url"], "", None]),
        "revised_prompt": JSON,
    },
)
PICTURES = [HELD, KEPT, LASTING, ENDING, FETCHED, ENDING_FETCHED, ENDING_ALONE, EMBEDDED]


@given(
    st.fixed_dictionaries(
        {"data": st.lists(ITEM, max_size=4)}, optional={"x": JSON, "usage": JSON}
    ),
    st.lists(st.sampled_from(PICTURES), max_size=4),
    st.sampled_from(FORMS),
    st.booleans(),
    st.sampled_from([None, 2]),
)
def test_every_picture_can_be_seen_and_nothing_else_changes(
    answer: dict[str, Any],
    pictures: list[Picture],
    form: Deliver,
    ascii: bool,
    indent: int | None,
) -> None:
    body = json.dumps(answer, ensure_ascii=ascii, indent=indent).encode()
    whole = Bought(body=body, images=1, cost=1, at=NOW, pictures=tuple(pictures))
    result = json.loads(render(whole, form, lambda name: LINK, NOW))
    for before, after in zip(answer["data"], result["data"], strict=True):
        had = before.get("b64_json") or before.get("url")
        assert bool(after.get("b64_json") or after.get("url")) == bool(had)
        assert {**before, "b64_json": 0, "url": 0} == {**after, "b64_json": 0, "url": 0}
    assert {**answer, "data": 0} == {**result, "data": 0}


def test_base64_is_added_to_what_had_none() -> None:
    items = [{"revised_prompt": "x"}, U, {"b64_json": None} | U, B]
    body = json.dumps({"data": items, "n": 1.0}).encode()
    result = json.loads(with_base64(body, {0: b"a picture", 1: b"other"}))
    other = {"b64_json": base64.b64encode(b"other").decode()}
    assert result == {"data": [items[0], U | B, U | other, B], "n": 1.0}


@pytest.mark.parametrize(
    "item",
    [
        B,
        B | U,
        DATA,
        {"b64_json": DATA["url"]},
        {"b64_json": BASE64.replace("Y", "\\u0059")},
        {"b64_json": BASE64[:4] + "\n" + BASE64[4:]},
    ],
)
def test_the_bytes_of_a_picture(item: dict[str, Any]) -> None:
    body = json.dumps({"data": [{}, U, item]}).encode().replace(b"\\\\u", b"\\u")
    assert picture_bytes(body, {0, 1}) == {1: b"a picture"}
    assert picture_bytes(body, {0}) == {}


@pytest.mark.parametrize("text", ["%%%", "abcde", "data:image/png,abcd"])
def test_what_is_no_base64_has_no_bytes(text: str) -> None:
    body = json.dumps({"data": [{"b64_json": text}]}).encode()
    assert not picture_bytes(body, {0})
