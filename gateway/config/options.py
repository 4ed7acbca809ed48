"""Reading the options of a configuration table into the fields of a Struct.

The Struct is the one source: its fields are the options' names, their types and `Meta` bounds say
what is right, their defaults apply where nothing is written. What a type cannot say stands in its
`Meta` too: `description` is how a fault names what would be right, `extra["read"]` is a function
that checks or changes the value and raises ValueError, `extra["in_file"]` one that raises it, with
the reason, for a value that only the environment may hold. Two types are ours: `Usd`, written as
dollars and kept as micro-dollars, and `Secret`, which no file may hold.
"""

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, inspect

from gateway.config.errors import Place, did_you_mean
from gateway.core.money import dollars
from gateway.core.secret import Secret


class Micro(int):
    """Micro-dollars that were written as dollars."""


Usd = Annotated[
    Micro, Meta(description="dollars, 0 or more, with at most six decimals, such as 0.05")
]


class Cause(ValueError):
    """What is wrong with a value, in words that have nothing of it."""


class Option(Struct, frozen=True):
    """One option of a table. `right` is what its values must be, `check` the last word on them,
    `check_in_file` one more where they stand in a file.

    `kind` is its type without None and annotations, `variable` the environment's name for it.
    """

    type: Any
    kind: inspect.Type
    right: str
    check: Callable[[Any], Any]
    check_in_file: Callable[[Any], Any]
    variable: str | None

    @property
    def is_secret(self) -> bool:
        """True where only the environment may set it."""
        return self.kind == inspect.CustomType(Secret)

    def convert(self, value: object) -> Any:
        """The value as the Struct holds it. Raises ValueError, whose text never has the value."""
        try:
            return self.check(msgspec.convert(value, self.type, dec_hook=_ours))
        except Cause as cause:
            raise ValueError(f"must be {self.right}; {cause}") from None
        except ValueError:  # msgspec.ValidationError is one
            raise ValueError(f"must be {self.right}") from None


def option(type: Any, variable: str | None = None) -> Option:
    """The option that takes values of this type."""
    info = inspect.type_info(type)
    kind, notes = unwrap(info)
    check, in_file = notes.get("read", _as_it_is), notes.get("in_file", _as_it_is)
    return Option(type, kind, describe(info), check, in_file, variable)


def options_of(
    struct: type[Struct], names: Collection[str] | None = None, *, section: str | None = None
) -> dict[str, Option]:
    """The options that a Struct's fields (all or the named ones) stand for.

    Those of a fixed section have environment variables.
    """
    return {
        field.name: option(field.type, variable_of(section, field.name) if section else None)
        for field in msgspec.structs.fields(struct)
        if names is None or field.name in names
    }


def variable_of(section: str, name: str) -> str:
    """The environment variable of an option of a fixed section."""
    return f"GATEWAY_{section}_{name}".upper()


def read_table(
    table: object,
    options: Mapping[str, Option],
    place: Place,
    faults: list[str],
    *,
    tables: Collection[str] = (),
) -> dict[str, Any]:
    """The right values of a table; `faults` gets a line for every wrong one and unknown name.

    `tables` are names that may stand here too and are read elsewhere.
    """
    if not isinstance(table, dict):
        faults.append(f"{place}: must be a table")
        return {}
    values = {}
    for name in [name for name in table if name not in tables]:
        try:
            values[name] = _read(name, table[name], options, tables)
        except ValueError as error:
            faults.append(f"{place.option(name)}: {error}")
    return values


def _read(
    name: str, value: object, options: Mapping[str, Option], tables: Collection[str]
) -> object:
    option = options.get(name)
    if option is None:
        raise ValueError(f"no such option{did_you_mean(name, [*options, *tables])}")
    if option.is_secret:
        raise ValueError(f"is read from the environment alone: set {option.variable}")
    converted = option.convert(value)
    try:
        option.check_in_file(converted)
    except ValueError as error:
        raise ValueError(f"{error}: set {option.variable}") from None
    return converted


def _as_it_is(value: object) -> object:
    return value


def _ours(kind: type, value: object) -> object:
    """What msgspec does not know: a secret from text, micro-dollars from dollars."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    if kind is Micro and isinstance(value, (str, int, Decimal)) and not isinstance(value, bool):
        return Micro(dollars(value))
    raise ValueError("of another type")


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
