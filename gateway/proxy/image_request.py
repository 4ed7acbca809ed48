"""Reads a request for images strictly: each fault is an error before it costs anything.

Defaults are filled in here, so all later steps see the fields that are really sent. Error messages
never repeat a client's text, not even a field name; numbers in them come from the configuration.
Codes are those of the upstream's own contract.

A prompt of only white space is refused like an empty one: it describes no picture, but the image
would cost the same.
"""

from collections.abc import Mapping
from typing import Any

from gateway.config.models import OUR_FIELDS, Model, Rewrite, find_model
from gateway.core.errors import InvalidRequest
from gateway.core.model import ImageRequest, ResponseFormat
from gateway.core.strict_json import read_object, write_json

_FORMAT = "response_format"
_OF_STREAMS = ("stream", "partial_images")

MOST_PARTIAL = 3
"""The most partial images of a picture in a stream."""


def read_request(
    body: bytes,
    models: Mapping[str, Model],
    default_model: str,
    *,
    sends_format: bool = False,
    sends_stream: bool = False,
) -> ImageRequest:
    """Read the request in `body`. `default_model` must be one of `models`.

    An alias is replaced by its model, and other fields as the model's `rewrite` says. All others
    keep their order and values. A null `model`, `size` or `n` is replaced by its default in its
    place; an absent one is appended. `response_format` is taken off unless `sends_format`, `stream`
    and `partial_images` unless a stream is wished and `sends_stream`: the gateway itself gives the
    answer that form. Raises InvalidRequest with a code for each cause, and with the field as
    `param` if one field is at fault.
    """
    fields = read_object(body)
    _refuse_case_variants(fields)
    stream, partial_images = _stream(fields)
    if not (stream and sends_stream):
        partial_images = 0
        for name in _OF_STREAMS:
            fields.pop(name, None)
    model = _model(fields, models, default_model)
    _rewrite(fields, model.rewrite)
    prompt = _prompt(fields, model)
    size = _size(fields, model)
    n = _n(fields, model)
    quality = _text(fields, "quality")
    response_format = _response_format(fields)
    if not sends_format:
        fields.pop(_FORMAT, None)
    fields.update(model=model.name, size=size, n=n)
    return ImageRequest(
        model=model.name,
        prompt=prompt,
        size=size,
        n=n,
        quality=quality,
        body=fields,
        neutral=_neutral(fields, model.upstream_defaults),
        response_format=response_format,
        stream=stream,
        partial_images=partial_images,
    )


def encode_body(request: ImageRequest) -> bytes:
    """Encode the request for the upstream: compact JSON, fields in the order they came.

    It is UTF-8: escaping to ASCII would double the size of most scripts.
    """
    return write_json(request.body)


def _refuse_case_variants(fields: Mapping[str, Any]) -> None:
    """Refuse field names that differ from ours only in case.

    Some JSON readers (Go's among them) match names in any case, and the last one wins: the gateway
    would check `quality`, and the upstream would draw and bill `Quality`.
    """
    for name in fields:
        if name not in OUR_FIELDS and (ours := name.casefold()) in OUR_FIELDS:
            raise _fault(ours, "duplicate_key", f"A field differs from {ours} only in case.")


def _stream(fields: Mapping[str, Any]) -> tuple[bool, int]:
    """Return whether the client reads a stream, and how many partial images of each picture."""
    stream, partial = (fields.get(name) for name in _OF_STREAMS)
    if not isinstance(stream, bool | None):
        raise _fault("stream", "invalid_type", "stream must be true or false.")
    if partial is not None:
        partial = _whole_number("partial_images", partial, 0, MOST_PARTIAL)
    return bool(stream), partial or 0


def _model(fields: Mapping[str, Any], models: Mapping[str, Model], default_model: str) -> Model:
    name = _text(fields, "model")
    model = find_model(models, default_model if name is None else name)
    if model is None:
        message = "This model is not configured; GET /v1/models lists the models."
        raise _fault("model", "model_not_found", message)
    return model


def _rewrite(fields: dict[str, Any], rules: Rewrite) -> None:
    for name, words in (("quality", rules.quality), ("size", rules.size)):
        value = fields.get(name)
        if isinstance(value, str) and value in words:
            fields[name] = words[value]
    for name in rules.drop:
        fields.pop(name, None)


def _neutral(fields: Mapping[str, Any], defaults: Mapping[str, object]) -> frozenset[str]:
    """Return the fields that do not tell a request from others.

    A field counts as its default only with the same type: true is 1 and 100.0 is 100 to Python.
    """
    same = {
        name
        for name, default in defaults.items()
        if name in fields and type(fields[name]) is type(default) and fields[name] == default
    }
    return frozenset(same | ({_FORMAT, *_OF_STREAMS} & fields.keys()))


def _prompt(fields: Mapping[str, Any], model: Model) -> str:
    prompt = _text(fields, "prompt")
    if prompt is None:
        raise _fault("prompt", "missing_required_parameter", "prompt is required.")
    if len(prompt) > model.max_prompt_chars:
        message = f"prompt must have at most {model.max_prompt_chars} characters."
        raise _fault("prompt", "string_above_max_length", message)
    if not prompt or prompt.isspace():
        raise _fault("prompt", "empty_string", "prompt must not be empty.")
    return prompt


def _size(fields: Mapping[str, Any], model: Model) -> str:
    size = _text(fields, "size")
    if size is None:
        return model.defaults.size
    problem = model.sizes.problem(size)
    if problem is not None:
        raise _fault("size", "invalid_value", problem)
    return size


def _n(fields: Mapping[str, Any], model: Model) -> int:
    n = fields.get("n")
    return model.defaults.n if n is None else _whole_number("n", n, 1, model.max_n)


def _whole_number(field: str, value: object, least: int, most: int) -> int:
    # The exact type: True is an int to Python, and 1.0 is not an integer of the contract.
    code = "invalid_type"
    if type(value) is int:
        if least <= value <= most:
            return value
        code = "integer_below_min_value" if value < least else "integer_above_max_value"
    raise _fault(field, code, f"{field} must be a whole number from {least} to {most}.")


def _response_format(fields: Mapping[str, Any]) -> ResponseFormat | None:
    value = fields.get(_FORMAT)
    if value is None or value == "url" or value == "b64_json":
        return value
    raise _fault(_FORMAT, "invalid_value", "response_format must be 'url' or 'b64_json'.")


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    """Read one of our fields as text, None if it is null or absent."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise _fault(name, "invalid_type", f"{name} must be a string.")


def _fault(field: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=field, code=code)
