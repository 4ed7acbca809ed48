"""What [models] says about clients: other names of a model, and fields that they send differently.

`aliases` are further names that requests may have, and `rewrite` replaces or drops what clients
have built in. Both apply once, before anything is decided: no rewritten value is rewritten again.
`upstream_defaults` lists fields whose value means the same as leaving them out.
"""

import re
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from gateway.config.models import OUR_FIELDS, Model, Quality, Rewrite
from gateway.config.options import is_table, option, read_table
from gateway.core.bounds import MOST_NAMES
from gateway.core.faults import Faults

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
MODEL_NAME_RULE = "a model's name has 1 to 128 letters, digits and . _ : / -"

_FIELD = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_NOT_COMPARED = ("model", "prompt", "size", "n", "response_format", "stream", "partial_images")
"""Fields that are filled in, or that are no part of the cache key."""

_LONGEST = 256

_Word = Annotated[str, Meta(max_length=_LONGEST)]

REWRITE = {
    "quality": option(
        Annotated[
            Mapping[_Word, Quality],
            Meta(
                description='a table such as { hd = "high" }, each value "low", "medium", "high" '
                'or "auto"',
                max_length=MOST_NAMES,
            ),
        ],
        default=None,
    ),
    "size": option(
        Annotated[
            Mapping[_Word, _Word],
            Meta(description='a table such as { "512x512" = "1024x1024" }', max_length=MOST_NAMES),
        ],
        default=None,
    ),
    "drop": option(
        Annotated[
            tuple[str, ...],
            Meta(description='a list of fields, such as ["style"]', max_length=MOST_NAMES),
        ],
        default=None,
    ),
}
"""The options of [models.NAME.rewrite]."""


def read_upstream_defaults(value: object, faults: Faults) -> dict[str, bool | int | str]:
    """Return the valid fields with their values. `faults` is at the table."""
    if not is_table(value, faults):
        return {}
    if len(value) > MOST_NAMES:
        faults.add(f"has {len(value)} fields; at most {MOST_NAMES} are read")
        return {}
    found: dict[str, bool | int | str] = {}
    for name, default in value.items():
        if not _FIELD.fullmatch(name) or name in _NOT_COMPARED:
            faults.add(f"must be a field other than {', '.join(_NOT_COMPARED)}", name)
        elif not isinstance(default, bool | int | str):
            faults.add("must be text, an integer, true or false", name)
        elif isinstance(default, str) and len(default) > _LONGEST:
            faults.add(f"must have at most {_LONGEST} characters", name)
        else:
            found[name] = default
    return found


def read_rewrite(value: object, faults: Faults) -> Rewrite:
    """Return the valid rules. `faults` is at the table."""
    rewrite = Rewrite(**read_table(value, REWRITE, faults))
    for position, name in enumerate(rewrite.drop, start=1):
        if name.casefold() in OUR_FIELDS:
            faults.add(f"item {position} is a field that the gateway reads itself", "drop")
    return rewrite


def check_sizes(model: Model, faults: Faults) -> None:
    """Find sizes that the model refuses. `faults` is at the model's table."""
    for written, size in model.rewrite.size.items():
        if problem := model.sizes.problem(size):
            message = f"breaks the model's own size rules: {problem.rstrip('.')}"
            faults.add(message, "rewrite", "size", written)


def check_aliases(models: Mapping[str, Model], faults: Faults) -> None:
    """Find aliases that are no names, or already name a model. `faults` is at the models."""
    seen = dict[str, str]()
    for model in models.values():
        at = faults.at(model.name)
        for position, alias in enumerate(model.aliases, start=1):
            item = f"item {position}"
            if not MODEL_NAME.fullmatch(alias):
                at.add(f"{item}: {MODEL_NAME_RULE}", "aliases")
            elif alias in models:
                at.add(f"{item} is the name of a model", "aliases")
            elif alias in seen:
                at.add(f"{item} is already an alias of {seen[alias]}", "aliases")
            else:
                seen[alias] = model.name
