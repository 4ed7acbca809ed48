"""Reading the query of a URL into a Struct, whose fields are the parameters."""

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.inspect import VarTupleType
from msgspec.structs import fields
from multidict import MultiMapping

from gateway.config.environment import value_of
from gateway.config.options import option
from gateway.core.faults import Fault, Faults, InvalidFields, did_you_mean
from gateway.core.periods import DAY_SECONDS
from gateway.reporting.queries import Span, usage_bounds

S = TypeVar("S", bound=Struct)


def read_query(given: MultiMapping[str], of: type[S]) -> S:
    """Read the parameters that `of` has as fields. Raises InvalidFields with every fault."""
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
            faults.add(str(error), name)
    refuse(faults.found)
    return of(**values)


def read_period(
    query: Span, now: float, most_days: int | None = None
) -> tuple[float, float | None]:
    """When a period begins and ends. Raises InvalidFields, also for more than `most_days`."""
    start, end = usage_bounds(query, now)
    days = (min(now, end or now) - start) / DAY_SECONDS
    if most_days is not None and days > most_days:
        refuse([Fault(("from",), f"is more than {most_days} days before to")])
    return start, end


def refuse(faults: Sequence[Fault]) -> None:
    """Raise InvalidFields if there are faults."""
    if faults:
        raise InvalidFields(faults)
