"""Reading TOML text, and the options of its tables into the fields of a Struct.

The Struct is the only declaration of an option. A field gives its name, type, bounds (`Meta`) and
default. `Meta` also holds the rest:

- `description` says in a fault which values are valid
- `extra["check"]` raises ValueError for an invalid value
- `extra["read"]` converts a value, and may raise ValueError too
- `extra["in_file"]` raises ValueError for a value that only the environment may hold
- `extra["any_case"]` marks an option whose words may have capital letters
- `extra["restart"]` marks an option that a running gateway does not reload
- `extra["gone"]` marks an option that a former release had: it is read, has no effect, and the text
  says in a warning what replaces it
- `extra["show"]` returns the part of a value that may be shown

Two types are our own: `Usd` is written as dollars and kept as micro-dollars, and a `Secret` must
not be in a file. Numbers with a point stay decimals, because money is exact.
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from decimal import Decimal, InvalidOperation
from inspect import cleandoc
from typing import Annotated, Any, TypeGuard

import msgspec
from msgspec import NODEFAULT, Meta, Struct, inspect

from gateway.core.bounds import MOST_NAMES
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


_ITEM = re.compile(r"`\$\[(\d+)\]")
"""Where msgspec's message says which item of a list is wrong, counted from 0."""

_DESCRIPTION = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)


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
        return Decimal("NaN")  # an exponent of too many digits; no option accepts NaN


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

    `kind` is its type without None and annotations, and `notes` are the `extra` of its `Meta`.
    `valid` describes the values that it takes.
    """

    type: Any
    kind: inspect.Type
    notes: Mapping[str, Any]
    valid: str
    default: Any
    variable: str | None = None

    @property
    def is_secret(self) -> bool:
        """Only the environment may set it."""
        return self.kind == inspect.CustomType(Secret)

    @property
    def needs_restart(self) -> bool:
        """A running gateway does not reload it."""
        return bool(self.notes.get("restart"))

    def convert(self, value: object) -> Any:
        """Return the value as the Struct holds it. Raises ValueError without the value in it."""
        if self.notes.get("any_case") and isinstance(value, str):
            value = value.lower()
        try:
            found = msgspec.convert(value, self.type, dec_hook=_decode)
            if found is not None:
                self._call("check", found)
                found = self._call("read", found)
        except InvalidValue as error:
            raise ValueError(f"must be {self.valid}; {error}") from None
        except ValueError as error:  # msgspec.ValidationError is one
            item = _ITEM.search(str(error))
            which = f"; item {int(item[1]) + 1} is wrong" if item else ""
            raise ValueError(f"must be {self.valid}{which}") from None
        # A plain integer, because msgspec encodes no subclass of int.
        return int(found) if isinstance(found, Micro) else found

    def check_in_file(self, value: object) -> None:
        """Raise ValueError if a file must not hold this value."""
        self._call("in_file", value)

    def show(self, value: object) -> Any:
        """Return a value without its secret parts."""
        return MASK if isinstance(value, Secret) else self._call("show", value)

    def _call(self, note: str, value: object) -> Any:
        return self.notes[note](value) if note in self.notes else value


def option(type: Any, *, default: Any = NODEFAULT, variable: str | None = None) -> Option:
    """Return the option that takes values of this type."""
    info = inspect.type_info(type)
    kind, notes = unwrap(info)
    valid = describe(info)
    return Option(
        type=type, kind=kind, notes=notes, valid=valid, default=default, variable=variable
    )


def options_of(struct: type[Struct], *, section: str | None = None) -> dict[str, Option]:
    """Return the options that a Struct declares: its fields that are no tables.

    The options of a fixed `section` have environment variables.
    """
    return {
        field.name: option(
            field.type,
            default=field.default,
            variable=variable_of(section, field.name) if section else None,
        )
        for field in msgspec.structs.fields(struct)
        if field.name not in tables_of(struct)
    }


def descriptions(struct: type[Struct]) -> dict[str, str]:
    """Return the sentence for each option in the docstrings of a Struct and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        _, _, options = cleandoc(base.__doc__ or "").partition("Options:\n")
        found |= {name: " ".join(text.split()) for name, text in _DESCRIPTION.findall(options)}
    return found


def tables_of(struct: type[Struct]) -> dict[str, Any]:
    """Return the types of the fields that are tables.

    A table is a Struct, or it maps names to tables as [admin.tokens] does.
    """
    tables = (inspect.DictType, inspect.StructType)
    return {
        field.name: field.type
        for field in msgspec.structs.fields(struct)
        if isinstance(unwrap(inspect.type_info(field.type))[0], tables)
    }


def variable_of(section: str, name: str) -> str:
    """Return the name of the environment variable of an option."""
    return f"GATEWAY_{section}_{name}".upper()


# -- tables -------------------------------------------------------------------------------------


def read_fields(
    table: object, of: type[Struct], faults: Faults, *, tables: Collection[str] = ()
) -> dict[str, Any]:
    """Return the valid values of a table for the fields of a Struct. Faults go to `faults`.

    A field that is a Struct itself is read from the table of its name. `tables` are names that the
    table may have too; they are read elsewhere.
    """
    inner = {name: kind for name, kind in tables_of(of).items() if name not in tables}
    values = read_table(table, options_of(of), faults, tables=(*inner, *tables))
    written = table if isinstance(table, dict) else {}
    for name, kind in inner.items():
        values[name] = kind(**read_fields(written.get(name, {}), kind, faults.at(name)))
    return values


def read_table(
    table: object, options: Mapping[str, Option], faults: Faults, *, tables: Collection[str] = ()
) -> dict[str, Any]:
    """Return the valid values of a table. Wrong, unknown and missing ones go to `faults`.

    `tables` are names that the table may have too; they are read elsewhere.
    """
    if not is_table(table, faults):
        return {}
    if len(table) > MOST_NAMES:  # each unknown one would be compared with the known ones
        faults.add(f"has {len(table)} options; at most {MOST_NAMES} are read")
        return {}
    values = {}
    for name in [name for name in table if name not in tables]:
        try:
            values[name] = _read(name, table[name], options, tables)
        except ValueError as error:
            faults.add(str(error), name)
    for name, option in options.items():
        if option.default is NODEFAULT and name not in table:
            faults.add("is needed", name)
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


def _decode(kind: type, value: object) -> object:
    """Convert to the types that msgspec does not know."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    if isinstance(value, float):  # from JSON: as the shortest decimal number, which is exact
        value = repr(value)
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
            most = f", at most {kind.max_length} items" if kind.max_length else ""
            return f"a list{some}, each item {describe(kind.item_type)}{most}"
    raise TypeError(f"cannot describe {kind}")


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    if kind.gt is not None and kind.le is not None:
        return f" above {kind.gt} and up to {kind.le}"
    return ""
