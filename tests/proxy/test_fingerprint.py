"""Equal requests have equal fingerprints; any other difference shows."""

import json
import random
import re
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.config.models import GPT_IMAGE_2
from gateway.core.model import ImageRequest
from gateway.proxy.fingerprint import fingerprint
from gateway.proxy.image_request import read_request

PLAIN = '"model":"gpt-image-2","size":"1024x1024","n":1'


def read(body: str) -> ImageRequest:
    return read_request(body.encode(), {"gpt-image-2": GPT_IMAGE_2}, "gpt-image-2")


def of(
    body: str,
    scope: str = "team",
    upstream: str = "https://api.example/v1",
    ignore: tuple[str, ...] = ("user", "safety_identifier"),
) -> str:
    return fingerprint(read(body), scope=scope, upstream=upstream, ignore=ignore)


def of_fields(fields: dict[str, Any]) -> str:
    request = ImageRequest(model="m", prompt="p", size="auto", n=1, quality=None, body=dict(fields))
    return fingerprint(request, scope="team", upstream="up", ignore=())


BASE = '{"prompt":"a cat"}'


@pytest.mark.parametrize(
    "body",
    [
        ' {\n "prompt" : "a cat" } ',
        '{"prompt":"\\u0061 c\\u0061t"}',
        '{"prompt":"a cat","n":1}',
        '{"n":null,"prompt":"a cat"}',
        '{"prompt":"a cat","size":null,"model":null}',
        f'{{{PLAIN},"prompt":"a cat"}}',
        f'{{"prompt":"a cat",{PLAIN}}}',
        '{"prompt":"a cat","user":"anyone"}',
        '{"user":null,"prompt":"a cat","safety_identifier":{"x":[1]}}',
    ],
)
def test_the_same_request(body: str) -> None:
    assert of(body) == of(BASE)


def test_each_value_of_a_further_field_counts() -> None:
    values = ["1", "1.0", "true", '"1"', "null", "0", "-0.0", "0.0", "false", '"true"', '"null"']
    values += ["[]", "{}", "[1]", '"[1]"', "[[1]]", '{"1":1}', "[1,1]", '"1,1"', '""', "1e300"]
    names = {of(f'{{"prompt":"a cat","x":{value}}}') for value in values}
    assert len(names | {of(BASE)}) == len(values) + 1


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"size": "auto"},
        {"quality": "auto"},
        {"quality": None},
        {"stream": False},
        {"stream": None},
        {"User": "u"},
        {"x": {"user": "u"}},
        *({"prompt": prompt} for prompt in ("a cat ", "A cat", "a\tcat", "\u0430 cat")),
    ],
)
def test_another_request(fields: dict[str, Any]) -> None:
    assert of(json.dumps({"prompt": "a cat", **fields})) != of(BASE)


def test_unicode_is_not_normalised() -> None:
    composed, decomposed = (of(json.dumps({"prompt": text})) for text in ("\u00e9", "e\u0301"))
    assert composed != decomposed


def test_only_top_level_fields_are_ignored_and_only_if_configured() -> None:
    first, second = (json.dumps({"prompt": "a cat", "x": {"user": user}}) for user in "ab")
    assert of(first) != of(second)
    assert of('{"prompt":"a","user":"a"}', ignore=()) != of('{"prompt":"a","user":"b"}', ignore=())


def test_it_is_a_hash_and_shows_nothing() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", of('{"prompt":"deadbeef"}'))


def test_it_does_not_depend_on_the_process() -> None:
    # Caches outlive a process, and replicas share one: a change here empties them all.
    assert of(BASE) == "2c8aad234abcf2f908f62d2946193aa3e2ff63c177db4523308d728d36e3df8f"


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | names
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)
objects = st.dictionaries(names, values, max_size=5)


def shuffled(value: Any, chance: random.Random) -> Any:
    """An equal value whose objects have their keys in another order, at every depth."""
    if isinstance(value, list):
        return [shuffled(inner, chance) for inner in value]
    if not isinstance(value, dict):
        return value
    items = list(value.items())
    chance.shuffle(items)
    return {name: shuffled(inner, chance) for name, inner in items}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) inside a value."""
    if isinstance(value, dict):
        inside = list(value.items())
    else:
        inside = list(enumerate(value)) if isinstance(value, list) else []
    found = [(value, place) for place, _ in inside]
    return found + [deeper for _, inner in inside for deeper in places(inner)]


def exact(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(objects, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_count(fields: dict[str, Any], chance: random.Random) -> None:
    assert of_fields(shuffled(fields, chance)) == of_fields(fields)


@given(objects, leaves, st.data())
def test_any_changed_value_shows(fields: dict[str, Any], leaf: object, data: st.DataObject) -> None:
    found = places(fields)
    assume(found)
    before, name = exact(fields), of_fields(fields)
    container, place = data.draw(st.sampled_from(found))
    container[place] = leaf
    assume(exact(fields) != before)
    assert of_fields(fields) != name


@given(objects, names, values)
def test_any_further_field_shows(fields: dict[str, Any], field: str, value: object) -> None:
    assume(field not in fields)
    assert of_fields({**fields, field: value}) != of_fields(fields)


@given(st.tuples(names, names), st.tuples(names, names))
@example(("ab", "c"), ("a", "bc"))
@example(('a","b', "c"), ("a", 'b","c'))
@example(("", "b"), ("b", ""))
def test_scope_and_upstream_never_mix(one: tuple[str, str], other: tuple[str, str]) -> None:
    assume(one != other)
    assert of(BASE, *one) != of(BASE, *other)
