"""Types in words."""

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, inspect

from gateway.config.options import describe, unwrap


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "true or false"),
        (bool | None, "true or false"),
        (int, "an integer"),
        (Annotated[int, Meta(ge=1, le=9)], "an integer from 1 to 9"),
        (Annotated[int, Meta(ge=1, le=9)] | None, "an integer from 1 to 9"),
        (Annotated[float, Meta(gt=0, le=9)], "a number above 0 and up to 9"),
        (str, "text"),
        (Annotated[str, Meta(description="a path")], "a path"),
        (Annotated[str | None, Meta(description="a path")], "a path"),
        (Literal["a", "b"], '"a" or "b"'),
        (tuple[bool, ...], "a list, each item true or false"),
        (
            Annotated[tuple[str, ...], Meta(min_length=1)] | None,
            "a list that is not empty, each item text",
        ),
    ],
)
def test_words(kind: Any, words: str) -> None:
    assert describe(inspect.type_info(kind)) == words


def test_a_type_that_no_option_has() -> None:
    with pytest.raises(TypeError):
        describe(inspect.type_info(bytes))


def test_notes_of_all_layers() -> None:
    kind = Annotated[Annotated[int, Meta(description="d")] | None, Meta(extra={"read": len})]
    assert unwrap(inspect.type_info(kind)) == (
        inspect.IntType(),
        {"description": "d", "read": len},
    )
