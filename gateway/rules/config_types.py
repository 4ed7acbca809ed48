"""What a field's type says about its values, in words for a fault: "an integer from 0 to 65535"."""

from typing import Any

from msgspec import inspect


def unwrap(info: inspect.Type) -> tuple[inspect.Type, dict[str, Any]]:
    """A type without None and annotations, and what the annotations note."""
    if isinstance(info, inspect.Metadata):
        kind, notes = unwrap(info.type)
        return kind, notes | (info.extra_json_schema or {}) | (info.extra or {})
    if isinstance(info, inspect.UnionType):
        return unwrap(next(t for t in info.types if not isinstance(t, inspect.NoneType)))
    return info, {}


def describe(info: inspect.Type) -> str:
    """What a value of this type must be. Raises TypeError for a type that no option has."""
    kind, notes = unwrap(info)
    if "description" in notes:
        return str(notes["description"])
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "an integer" + _range(kind)
        case inspect.FloatType():
            return "a number" + _range(kind)
        case inspect.StrType():
            return "text"
        case inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in kind.values)
        case inspect.VarTupleType():
            some = " that is not empty" if kind.min_length else ""
            return f"a list{some}, each item {describe(kind.item_type)}"
    raise TypeError(f"no words for {kind}")


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    if kind.gt is not None and kind.le is not None:
        return f" above {kind.gt} and up to {kind.le}"
    return ""
