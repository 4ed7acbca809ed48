"""Reading the query of a URL into a Struct, whose fields are the parameters."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.inspect import VarTupleType
from msgspec.structs import fields
from multidict import MultiMapping

from gateway.config.environment import value_of
from gateway.config.options import option
from gateway.core.bounds import MOST_NAMES
from gateway.core.faults import Fault, Faults, InvalidFields, did_you_mean
from gateway.reporting.queries import Span, check_days

S = TypeVar("S", bound=Struct)

_NUMBER = re.compile(r"-?[0-9]{1,12}", re.ASCII)
"""A value that an error may repeat, because it cannot be a secret."""


def read_query(given: MultiMapping[str], of: type[S], now: float) -> S:
    """Read the parameters that `of` has as fields. Raises InvalidFields with every fault."""
    if len(given) > MOST_NAMES:
        refuse([Fault((), f"The query has {len(given)} parameters; at most {MOST_NAMES} are read")])
    known = {field.encode_name: field for field in fields(of)}
    values, faults = dict[str, Any](), Faults()
    for name in dict.fromkeys(given):
        if name not in known:
            faults.add(f"no such parameter{did_you_mean(name, known)}", name)
            continue
        wanted, texts = option(known[name].type), given.getall(name)
        many = isinstance(wanted.kind, VarTupleType)
        try:
            if len(texts) > 1 and not many:
                raise ValueError("is given twice")
            values[known[name].name] = value_of(wanted, ",".join(texts))
        except ValueError as error:
            got = f", got {texts[0]}" if _NUMBER.fullmatch(texts[0]) else ""
            faults.add(f"{error}{got}", name)
    refuse(faults.found)
    query = of(**values)
    if isinstance(query, Span):
        check_days(query, now)
    return query


def refuse(faults: Sequence[Fault]) -> None:
    """Raise InvalidFields if there are faults."""
    if faults:
        raise InvalidFields(faults)
