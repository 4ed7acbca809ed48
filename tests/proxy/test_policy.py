"""The team's policy: the allowed values, and the errors that list them."""

from typing import Any

import pytest

from gateway.core.errors import NotPermitted
from gateway.core.model import ImageRequest, Team
from gateway.proxy.policy import check_policy, visible_models

OPEN = Team(name="open")
AUTO = Team(name="auto", sizes=("auto",), qualities=("auto",))
CLOSED = Team(
    name="closed",
    models=("gpt-image-2", "small"),
    sizes=("1024x1024", "1024x1536"),
    qualities=("low", "medium"),
    max_n=2,
)
WITHOUT_QUALITY = "low, medium. A request without a quality counts as 'auto'."


def request(**fields: Any) -> ImageRequest:
    plain = {"model": "gpt-image-2", "size": "1024x1024", "n": 1, "quality": "low"}
    return ImageRequest(prompt="CANARY", body={}, **{**plain, **fields})


@pytest.mark.parametrize(
    ("team", "fields"),
    [
        *((OPEN, fields) for fields in ({}, {"model": "x", "size": "auto", "n": 10})),
        *((OPEN, {"quality": quality}) for quality in (None, "y")),
        *((CLOSED, fields) for fields in ({}, {"model": "small"}, {"size": "1024x1536"})),
        *((CLOSED, fields) for fields in ({"quality": "medium"}, {"n": 2})),
        *((AUTO, {"size": "auto", "quality": quality}) for quality in ("auto", None, "")),
    ],
)
def test_allowed_values(team: Team, fields: dict[str, Any]) -> None:
    check_policy(team, request(**fields))


@pytest.mark.parametrize(
    ("fields", "param", "ending"),
    [
        ({"model": "CANARY"}, "model", "models: gpt-image-2, small."),
        ({"model": "gpt-image"}, "model", "models: gpt-image-2, small."),
        ({"size": "CANARY"}, "size", "sizes: 1024x1024, 1024x1536."),
        ({"size": "auto"}, "size", "sizes: 1024x1024, 1024x1536."),
        ({"quality": "CANARY"}, "quality", "qualities: low, medium."),
        ({"quality": "auto"}, "quality", "qualities: low, medium."),
        ({"quality": None}, "quality", WITHOUT_QUALITY),
        ({"quality": ""}, "quality", WITHOUT_QUALITY),
        ({"n": 3}, "n", "at most 2 images at once."),
    ],
)
def test_refused_values(fields: dict[str, Any], param: str, ending: str) -> None:
    with pytest.raises(NotPermitted) as caught:
        check_policy(CLOSED, request(**fields))
    error = caught.value
    assert (error.status, error.type) == (403, "permission_error")
    assert (error.param, error.code) == (param, f"{param}_not_allowed")
    assert error.message.endswith(ending)
    assert "CANARY" not in error.message


def test_an_empty_list_allows_nothing() -> None:
    with pytest.raises(NotPermitted, match="models: none"):
        check_policy(Team(name="a", models=()), request())


@pytest.mark.parametrize(
    ("models", "visible"),
    [(None, ["b", "a", "c"]), ((), []), (("c", "b", "gone"), ["b", "c"])],
)
def test_visible_models(models: tuple[str, ...] | None, visible: list[str]) -> None:
    assert visible_models(Team(name="t", models=models), ["b", "a", "c"]) == visible
