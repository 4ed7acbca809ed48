"""Equal requests have equal fingerprints, others differ; the same bytes are read only once."""

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.config.models import GPT_IMAGE_2, Rewrite
from gateway.config.settings import Settings, UpstreamSettings
from gateway.core.errors import InvalidRequest
from gateway.core.model import ImageRequest, Team
from gateway.proxy.fingerprint import (
    MOST_BYTES,
    MOST_REQUESTS,
    FingerprintedRequest,
    RequestMemo,
    body_digest,
    fingerprint,
)
from gateway.proxy.image_request import encode_body, read_request
from tests.support.json_values import leaves, names, values

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


@pytest.mark.parametrize("sends_format", [False, True])
@pytest.mark.parametrize("value", ['"url"', '"b64_json"', "null"])
def test_the_form_of_pictures_does_not_count(value: str, sends_format: bool) -> None:
    settings = Settings(upstream=UpstreamSettings(response_format=sends_format))
    body = f'{{"prompt":"a cat","response_format":{value}}}'.encode()
    with_form = RequestMemo().read(body, RED, settings)
    without = RequestMemo().read(BASE.encode(), RED, settings)
    assert ("response_format" in with_form.request.body) == sends_format
    assert with_form.fingerprint == without.fingerprint
    assert body_digest(with_form.request) == body_digest(without.request)


@pytest.mark.parametrize("stream", ["true", "false", "null"])
@pytest.mark.parametrize("sends_stream", [False, True])
def test_a_stream_does_not_count(stream: str, sends_stream: bool) -> None:
    settings = Settings(upstream=UpstreamSettings(stream=sends_stream))
    body = f'{{"prompt":"a cat","stream":{stream},"partial_images":2}}'.encode()
    streamed = RequestMemo().read(body, RED, settings)
    plain = RequestMemo().read(BASE.encode(), RED, settings)
    assert ("stream" in streamed.request.body) == (sends_stream and stream == "true")
    assert streamed.fingerprint == plain.fingerprint
    assert body_digest(streamed.request) == body_digest(plain.request)


DEFAULTS = [
    *(("quality", "auto"), ("background", "auto"), ("moderation", "auto")),
    *(("output_format", "png"), ("output_compression", 100)),
]


@pytest.mark.parametrize(("field", "value"), DEFAULTS)
def test_the_upstreams_own_default_counts_as_absent(field: str, value: object) -> None:
    plain, request = read(BASE), read(json.dumps({"prompt": "a cat", field: value}))
    assert of(BASE) == of(json.dumps({field: value, "prompt": "a cat"}))
    assert body_digest(plain) == body_digest(request)
    assert json.loads(encode_body(request))[field] == value, "it is sent as it came"


def test_a_value_that_only_looks_like_the_default_counts() -> None:
    """Also a null, and a value of another type that is equal to Python."""
    values = [("output_compression", each) for each in ("100.0", '"100"', "99", "null")]
    values += [("quality", each) for each in ('"AUTO"', '"auto "', '""', "null")]
    values += [("output_format", each) for each in ('"jpeg"', '["png"]', '{"png":0}', "null")]
    bodies = [BASE, *(f'{{"prompt":"a cat","{name}":{value}}}' for name, value in values)]
    assert len({of(body) for body in bodies}) == len(bodies)
    assert len({body_digest(read(body)) for body in bodies}) == len(bodies)


def test_the_list_of_defaults_is_the_models_own() -> None:
    model = replace(GPT_IMAGE_2, upstream_defaults={"seed": 0})
    names = {
        body: RequestMemo().read(body.encode(), RED, Settings(models={model.name: model}))
        for body in (BASE, '{"prompt":"a cat","seed":0}', '{"prompt":"a cat","quality":"auto"}')
    }
    plain, seed, quality = (read.fingerprint for read in names.values())
    assert plain == seed != quality


def test_an_alias_and_rewritten_values_make_the_same_request() -> None:
    rules = Rewrite(quality={"hd": "high"}, size={"512x512": "1024x1024"}, drop=("style",))
    model = replace(GPT_IMAGE_2, aliases=("dall-e-3",), rewrite=rules)
    settings = Settings(models={model.name: model})
    old = {"model": "dall-e-3", "quality": "hd", "size": "512x512", "style": "vivid"}
    new = {"model": "gpt-image-2", "quality": "high", "size": "1024x1024"}
    one, other = (
        RequestMemo().read(json.dumps({"prompt": "a cat", **each}).encode(), RED, settings)
        for each in (old, new)
    )
    assert (one.request, one.labels) == (other.request, other.labels)
    assert one.fingerprint == other.fingerprint


def test_other_requests_have_other_fingerprints() -> None:
    """Each value of a further field counts, and text is not normalised."""
    values = ["1", "1.0", "true", '"1"', "null", "0", "-0.0", "0.0", "false", '"true"', '"null"']
    values += ["[]", "{}", "[1]", '"[1]"', "[[1]]", '{"1":1}', "[1,1]", '"1,1"', '""', "1e300"]
    values += ['"\u00e9"', '"e\u0301"', '{"user":"a"}', '{"user":"b"}']
    bodies = [f'{{"prompt":"a cat","x":{value}}}' for value in values]
    others: list[dict[str, Any]] = [{"n": 2}, {"size": "auto"}, {"quality": "low"}]
    others += [{"quality": None}, {"User": "u"}]
    others += [{"prompt": prompt} for prompt in ("a cat ", "A cat", "a\tcat", "\u0430 cat")]
    bodies += [BASE, *(json.dumps({"prompt": "a cat", **fields}) for fields in others)]
    assert len({of(body) for body in bodies}) == len(bodies)


def test_only_configured_fields_are_ignored() -> None:
    assert of('{"prompt":"a","user":"a"}', ignore=()) != of('{"prompt":"a","user":"b"}', ignore=())


def test_it_does_not_depend_on_the_process() -> None:
    # Caches outlive a process, and replicas share one: a change here empties them all.
    assert of(BASE) == "2c8aad234abcf2f908f62d2946193aa3e2ff63c177db4523308d728d36e3df8f"


objects = st.dictionaries(names, values, max_size=5)


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


@given(objects)
def test_the_order_of_keys_does_not_count(fields: dict[str, Any]) -> None:
    text = json.dumps(fields)
    backwards = json.loads(text, object_pairs_hook=lambda pairs: dict(pairs[::-1]))
    assert of_fields(backwards) == of_fields(fields)


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


# -- the memo -------------------------------------------------------------------------------------

BODY = b'{"prompt":"a red apple","user":"one"}'
RED, BLUE = Team(name="red"), Team(name="blue")
SETTINGS = Settings()


class Memo(RequestMemo):
    """A memo with default arguments."""

    def __call__(
        self, body: bytes = BODY, team: Team = RED, settings: Settings = SETTINGS
    ) -> FingerprintedRequest:
        return self.read(body, team, settings)


@pytest.fixture
def memo() -> Memo:
    return Memo()


def test_the_same_bytes_are_read_once(memo: Memo) -> None:
    first = memo()
    assert memo(bytes(bytearray(BODY))) is first
    assert memo(BODY + b" ") is not first
    assert memo(BODY + b" ") == first
    assert first.labels == ("gpt-image-2", "1024x1024", "auto")


def test_teams_stay_apart_unless_they_share(memo: Memo) -> None:
    assert memo(team=RED).fingerprint != memo(team=BLUE).fingerprint
    shared = replace(SETTINGS, cache=replace(SETTINGS.cache, scope="shared"))
    assert memo(team=RED, settings=shared) is memo(team=BLUE, settings=shared)


def test_a_purge_and_new_settings_change_the_fingerprint(memo: Memo) -> None:
    before, after = memo(), memo(team=replace(RED, purged=1))
    changed = memo(settings=replace(SETTINGS, cache=replace(SETTINGS.cache, ignore_fields=())))
    assert before.request == after.request == changed.request
    assert len({before.fingerprint, after.fingerprint, changed.fingerprint}) == 3


def test_an_error_is_a_new_one_each_time(memo: Memo) -> None:
    with pytest.raises(InvalidRequest) as first:
        memo(b'{"prompt":""}')
    with pytest.raises(InvalidRequest) as second:
        memo(b'{"prompt":""}')
    assert first.value is not second.value


def test_long_bodies_and_those_used_long_ago_are_not_remembered(memo: Memo) -> None:
    long = b'{"prompt":"%s"}' % (b"x" * MOST_BYTES)
    assert memo(long) is not memo(long)
    assert memo(long) == memo(long)
    first = memo()
    for number in range(MOST_REQUESTS):
        memo(b'{"prompt":"%d"}' % number)
    assert memo() is not first
