"""The team's policy: what it allows, and the errors that list the allowed values."""

from typing import Any

import pytest

from gateway.core.errors import NotPermitted
from gateway.core.model import ImageRequest, Team
from gateway.proxy.policy import check_policy, visible_models

OPEN = Team(name="open")
CLOSED = Team(
    name="closed",
    models=("gpt-image-2", "small"),
    sizes=("1024x1024", "1024x1536"),
    qualities=("low", "medium"),
    max_n=2,
)


def request(**fields: Any) -> ImageRequest:
    plain = {"model": "gpt-image-2", "size": "1024x1024", "n": 1, "quality": "low"}
    return ImageRequest(prompt="CANARY", body={}, **{**plain, **fields})


@pytest.mark.parametrize(
    "fields", [{}, {"model": "x"}, {"size": "auto"}, {"quality": None}, {"quality": "y"}, {"n": 10}]
)
def test_a_team_without_policy_may_ask_for_everything(fields: dict[str, Any]) -> None:
    check_policy(OPEN, request(**fields))


@pytest.mark.parametrize(
    "fields", [{}, {"model": "small"}, {"size": "1024x1536"}, {"quality": "medium"}, {"n": 2}]
)
def test_allowed_values(fields: dict[str, Any]) -> None:
    check_policy(CLOSED, request(**fields))


@pytest.mark.parametrize(
    ("fields", "param", "ending"),
    [
        ({"model": "CANARY"}, "model", "models: gpt-image-2, small."),
        ({"model": "gpt-image"}, "model", "models: gpt-image-2, small."),
        ({"size": "CANARY"}, "size", "sizes: 1024x1024, 1024x1536."),
        ({"size": "auto"}, "size", "sizes: 1024x1024, 1024x1536."),
        ({"quality": "CANARY"}, "quality", "qualities: low, medium."),
        ({"quality": "auto"}, "quality", "qualities: low, medium."),
        (
            {"quality": None},
            "quality",
            "low, medium. A request without a quality counts as 'auto'.",
        ),
        ({"quality": ""}, "quality", "low, medium. A request without a quality counts as 'auto'."),
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


@pytest.mark.parametrize("quality", [None, "auto"])
def test_a_quality_left_out_counts_as_auto(quality: str | None) -> None:
    check_policy(Team(name="a", qualities=("auto",)), request(quality=quality))


def test_auto_as_a_size_can_be_allowed() -> None:
    check_policy(Team(name="a", sizes=("auto",)), request(size="auto"))


def test_an_empty_list_allows_nothing() -> None:
    with pytest.raises(NotPermitted, match="models: none"):
        check_policy(Team(name="a", models=()), request())


@pytest.mark.parametrize(
    ("models", "visible"),
    [
        (None, ["b", "a", "c"]),
        ((), []),
        (("c", "b", "gone"), ["b", "c"]),
    ],
)
def test_visible_models(models: tuple[str, ...] | None, visible: list[str]) -> None:
    assert visible_models(Team(name="t", models=models), ["b", "a", "c"]) == visible
