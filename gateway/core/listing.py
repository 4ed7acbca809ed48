"""The public form of records: what the admin API, the command line and the OpenAPI document show.

A record is one frozen Struct. Stores keep it as it is, with money in micro-dollars and time in
seconds. Where the public form of a field differs, the type of the field says so: with
`cost: MicroDollars` a record shows `"cost_usd": "0.042"`. So one Struct is the stored row, the
JSON object and its schema.
"""

from collections.abc import Callable, Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from msgspec import UNSET, Struct, UnsetType, defstruct, json
from msgspec.structs import fields

Listing = dict[str, Any]
"""A record in its public form."""

Convert = Callable[[Any], Any]

_EMPTY = {NoneType, UnsetType}


class Shown(Struct, frozen=True):
    """The public form of a field, written as `Annotated[int, Shown(...)]`.

    `name` may contain `{}`, which stands for the name of the field. `type` is the JSON type, and
    `convert` makes its value. `convert` is None where the value stays as it is.
    """

    type: Any
    convert: Convert | None
    name: str = "{}"


HIDDEN = Shown(NoneType, None, "")
"""Marks a field that the public form leaves out."""


def listing(record: Struct) -> Listing:
    """Return a record in its public form. Fields that are UNSET are left out."""
    found: Listing = {}
    for attribute, name, shown in _shown_fields(type(record)):
        value = getattr(record, attribute)
        if value is not UNSET:
            found[name] = value if shown.convert is None else shown.convert(value)
    return found


def json_pieces(record: Struct) -> Iterator[bytes]:
    """Yield the JSON of a record's public form in pieces: in lists, one for each record."""
    if not _has_lists(type(record)):
        yield json.encode(listing(record))
        return
    before = b"{"
    for attribute, name, shown in _shown_fields(type(record)):
        value = getattr(record, attribute)
        if value is UNSET:
            continue
        yield before + json.encode(name) + b":"
        before = b","
        if isinstance(value, list) and value and isinstance(value[0], Struct):
            mark = b"["
            for item in value:
                yield mark
                yield from json_pieces(item)
                mark = b","
            yield b"]"
        else:
            yield json.encode(value if shown.convert is None else shown.convert(value))
    yield b"}"


@cache
def _has_lists(record: type[Struct]) -> bool:
    return any(get_origin(shown.type) is list for _, _, shown in _shown_fields(record))


def public_type(kind: Any) -> Any:
    """Return the type of the public form of a record, or of a list of records."""
    return _shown(kind).type


@cache
def _shown_struct(record: type[Struct]) -> Shown:
    may_lack = {field.name for field in fields(record) if field.default is UNSET}
    public = defstruct(
        record.__name__,
        [
            (name, shown.type, UNSET) if attribute in may_lack else (name, shown.type)
            for attribute, name, shown in _shown_fields(record)
        ],
        namespace={"__doc__": record.__doc__},
        frozen=True,
        kw_only=True,
    )
    return Shown(public, listing)


@cache
def _shown_fields(record: type[Struct]) -> list[tuple[str, str, Shown]]:
    """Attribute, public name and public form of each field."""
    found = [(field, _shown(field.type)) for field in fields(record)]
    return [
        (field.name, shown.name.format(field.encode_name), shown)
        for field, shown in found
        if shown is not HIDDEN
    ]


def _shown(kind: Any) -> Shown:
    arguments, origin = get_args(kind), get_origin(kind)
    if origin is Annotated:
        return next((mark for mark in arguments[1:] if isinstance(mark, Shown)), Shown(kind, None))
    if origin in (UnionType, Union) and len(arguments) == 2 and _EMPTY & set(arguments):
        (inner,) = (_shown(each) for each in arguments if each not in _EMPTY)
        (empty,) = (each for each in arguments if each in _EMPTY)
        return Shown(inner.type | empty, _unless_none(inner.convert), inner.name)
    if origin is list:
        inner = _shown(arguments[0])
        return Shown(list.__class_getitem__(inner.type), _for_each(inner.convert), inner.name)
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _shown_struct(kind)
    return Shown(kind, None)


def _unless_none(convert: Convert | None) -> Convert | None:
    return convert and (lambda value: None if value is None else convert(value))


def _for_each(convert: Convert | None) -> Convert | None:
    return convert and (lambda values: [convert(value) for value in values])
