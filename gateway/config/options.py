"""Reading TOML text, and the options of its tables into the fields of a Struct.

The Struct is the only declaration of an option. A field gives its name, type, bounds (`Meta`) and
default. `Meta` also holds the rest:

- `description` says in a fault which values are valid
- `extra["read"]` checks or converts a value, and raises ValueError
- `extra["in_file"]` raises ValueError for a value that only the environment may hold
- `extra["restart"]` marks an option that a running gateway does not reload
- `extra["show"]` returns the part of a value that may be shown

Two types are our own: `Usd` is written as dollars and kept as micro-dollars, and a `Secret` must
not be in a file. Numbers with a point stay decimals, because money is exact.
"""

import tomllib
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, TypeGuard

import msgspec
from msgspec import NODEFAULT, Meta, Struct, inspect

from gateway.core.faults import ConfigError, Fault, Faults, InvalidValue, did_you_mean
from gateway.core.money import dollars
from gateway.core.secret import Secret


class Micro(int):
    """Micro-dollars that were written as dollars."""


Usd = Annotated[
    Micro, Meta(description="dollars, 0 or more, with at most six decimals, such as 0.05")
]

MASK = "***"
"""Shown instead of a secret."""

RESTART = Meta(extra={"restart": True})
"""Marks an option that needs a restart."""


# -- TOML ---------------------------------------------------------------------------------------


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """Return the tables of a TOML text. Raises ConfigError with one fault in `file`."""
    text = text.removeprefix("\ufeff")
    try:
        return tomllib.loads(text, parse_float=_decimal)
    except tomllib.TOMLDecodeError as error:
        message = _syntax_fault(str(error), text)
    except ValueError:
        message = "an integer has too many digits"
    except RecursionError:
        message = "arrays or tables are nested too deeply"
    raise ConfigError([Fault((), message, file)])


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _syntax_fault(message: str, text: str) -> str:
    """Return the parser's message on one line. It repeats at most names and single characters."""
    last_line = text[text.rfind("\n") + 1 :]
    end = f"at line {text.count(chr(10)) + 1}, column {len(last_line) + 1}"
    message = (
        message.replace("at end of document", end).encode("ascii", "backslashreplace").decode()
    )
    return f"not valid TOML: {message}"


# -- options ------------------------------------------------------------------------------------


class Option(Struct, frozen=True, kw_only=True):
    """One option of a table.

    `kind` is its type without None and annotations. `valid` describes the values that it takes.
    `check` checks or converts a value, `check_in_file` refuses a value that a file must not hold,
    and `show` returns a value without its secret parts.
    """

    type: Any
    kind: inspect.Type
    valid: str
    check: Callable[[Any], Any]
    check_in_file: Callable[[Any], Any]
    show: Callable[[Any], Any]
    needs_restart: bool = False
    default: Any
    variable: str | None = None

    @property
    def is_secret(self) -> bool:
        """Only the environment may set it."""
        return self.kind == inspect.CustomType(Secret)

    def convert(self, value: object) -> Any:
        """Return the value as the Struct holds it. Raises ValueError without the value in it."""
        try:
            checked = self.check(msgspec.convert(value, self.type, dec_hook=_decode))
        except InvalidValue as error:
            raise ValueError(f"must be {self.valid}; {error}") from None
        except ValueError:  # msgspec.ValidationError is one
            raise ValueError(f"must be {self.valid}") from None
        return int(checked) if isinstance(checked, Micro) else checked


def option(type: Any, *, default: Any = NODEFAULT, variable: str | None = None) -> Option:
    """Return the option that takes values of this type."""
    info = inspect.type_info(type)
    kind, notes = unwrap(info)
    return Option(
        type=type,
        kind=kind,
        valid=describe(info),
        check=notes.get("read", _unchanged),
        check_in_file=notes.get("in_file", _unchanged),
        show=notes.get("show", _masked),
        needs_restart=notes.get("restart", False),
        default=default,
        variable=variable,
    )


def options_of(
    struct: type[Struct], names: Collection[str] | None = None, *, section: str | None = None
) -> dict[str, Option]:
    """Return the options that a Struct declares: all of them, or the named ones.

    A field that maps names to tables is not an option. The options of a fixed `section` have
    environment variables.
    """
    return {
        field.name: option(
            field.type,
            default=field.default,
            variable=variable_of(section, field.name) if section else None,
        )
        for field in msgspec.structs.fields(struct)
        if (field.name in names if names is not None else not maps_names(field.type))
    }


def maps_names(type: Any) -> bool:
    """Whether a field of this type maps names to tables, as [admin.tokens] does."""
    return isinstance(unwrap(inspect.type_info(type))[0], inspect.DictType)


def variable_of(section: str, name: str) -> str:
    """Return the name of the environment variable of an option."""
    return f"GATEWAY_{section}_{name}".upper()


# -- tables -------------------------------------------------------------------------------------


def read_table(
    table: object,
    options: Mapping[str, Option],
    faults: Faults,
    *,
    tables: Collection[str] = (),
) -> dict[str, Any]:
    """Return the valid values of a table. Wrong values and unknown names go to `faults`.

    `tables` are names that the table may have too; they are read elsewhere.
    """
    if not is_table(table, faults):
        return {}
    values = {}
    for name in [name for name in table if name not in tables]:
        try:
            values[name] = _read(name, table[name], options, tables)
        except ValueError as error:
            faults.add(str(error), name)
    return values


def is_table(value: object, faults: Faults) -> TypeGuard[dict[str, Any]]:
    """Whether the value is a table. Anything else is a fault."""
    if not isinstance(value, dict):
        faults.add("must be a table")
    return isinstance(value, dict)


def _read(
    name: str, value: object, options: Mapping[str, Option], tables: Collection[str]
) -> object:
    option = options.get(name)
    if option is None:
        raise ValueError(f"no such option{did_you_mean(name, [*options, *tables])}")
    if option.is_secret:
        raise ValueError(f"must not be in a file: set the environment variable {option.variable}")
    converted = option.convert(value)
    try:
        option.check_in_file(converted)
    except ValueError as error:
        raise ValueError(f"{error}: set the environment variable {option.variable}") from None
    return converted


def _unchanged(value: object) -> object:
    return value


def _masked(value: object) -> object:
    return MASK if isinstance(value, Secret) else value


def _decode(kind: type, value: object) -> object:
    """Convert to the types that msgspec does not know."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    if kind is Micro and isinstance(value, (str, int, Decimal)) and not isinstance(value, bool):
        return Micro(dollars(value))
    raise ValueError("wrong type")


# -- types --------------------------------------------------------------------------------------


def unwrap(info: inspect.Type) -> tuple[inspect.Type, dict[str, Any]]:
    """Return a type without None and annotations, and the notes of the annotations."""
    if isinstance(info, inspect.Metadata):
        kind, notes = unwrap(info.type)
        return kind, notes | (info.extra_json_schema or {}) | (info.extra or {})
    if isinstance(info, inspect.UnionType):
        return unwrap(next(t for t in info.types if not isinstance(t, inspect.NoneType)))
    return info, {}


def describe(info: inspect.Type) -> str:
    """Describe the valid values of a type. Raises TypeError for a type that no option has."""
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
    raise TypeError(f"cannot describe {kind}")


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    if kind.gt is not None and kind.le is not None:
        return f" above {kind.gt} and up to {kind.le}"
    return ""
