"""The sizes that a model draws, and the messages about all others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.models import (
    GPT_IMAGE_2,
    SizeRules,
    closed_labels,
    edges,
    is_size,
    pixels,
    quality_label,
)
from gateway.core.model import ImageRequest

RULES = SizeRules()
EDGES = st.integers(min_value=1, max_value=4_500)


@pytest.mark.parametrize(
    "size",
    [
        *("auto", "1024x1024", "1536x1024", "3840x2160", "2160x3840", "3840x1280", "640x1024"),
        "816x816",
    ],
)
def test_possible_sizes(size: str) -> None:
    assert RULES.problem(size) is None


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ("1024x1025", "divisible by 16"),
        ("1000x1024", "divisible by 16"),
        ("3856x2048", "no edge above 3840"),
        ("3840x1264", "ratio from 1:3 to 3:1"),
        ("512x1552", "ratio from 1:3 to 3:1"),
        ("624x1024", "655360 to 8294400 pixels"),
        ("3840x2176", "655360 to 8294400 pixels"),
        ("99984x99984", "no edge above"),
    ],
)
def test_impossible_sizes(size: str, reason: str) -> None:
    problem = RULES.problem(size)
    assert problem is not None
    assert reason in problem


@pytest.mark.parametrize(
    "size",
    [
        *("", "x", "AUTO", "auto ", "1024", "1024x", "x1024", "1024X1024", "1024\u00d71024"),
        *("1024*1024", " 1024x1024", "1024x1024\n", "+1024x1024", "-1024x1024", "01024x1024"),
        *("1024x1024x1024", "1e3x1024", "1_024x1024", "1024.0x1024", "16x16", "100000x1024"),
        *("\u0661\u0660\u0662\u0664x1024", "1024x\u0967\u0966\u0968\u096a"),
        *(pytest.param("1" * 100_000, id="long"), "\ud800", "\x00", "NaNxNaN"),
    ],
)
def test_invalid_sizes(size: str) -> None:
    assert RULES.problem(size) == "size must be 'auto' or WxH, such as 1024x1024."
    assert not is_size(size)
    for measure in (pixels, edges):
        with pytest.raises(ValueError, match="WxH"):
            measure(size)


@given(EDGES, EDGES)
def test_agrees_with_the_rules_spelled_out(width: int, height: int) -> None:
    possible = (
        width % 16 == 0
        and height % 16 == 0
        and max(width, height) <= 3840
        and max(width, height) <= 3 * min(width, height)
        and 655_360 <= width * height <= 8_294_400
    )
    assert (RULES.problem(f"{width}x{height}") is None) == possible


def test_a_closed_list_on_top_of_the_rules() -> None:
    rules = SizeRules(allowed=("1024x1024",), auto=False)
    assert rules.problem("1024x1024") is None
    assert "lists" in (rules.problem("1536x1024") or "")
    assert "does not take 'auto'" in (rules.problem("auto") or "")
    assert rules.problem("?") == "size must be WxH, such as 1024x1024."


def test_other_bounds() -> None:
    rules = SizeRules(multiple_of=10, max_ratio=1.5, max_edge=500, min_pixels=1, max_pixels=10**6)
    assert rules.problem("300x450") is None
    assert rules.problem("300x460") == "size must have a ratio from 1:1.5 to 1.5:1."
    assert rules.problem("510x500") == "size must have no edge above 500 pixels."


def test_pixels() -> None:
    assert pixels("1536x1024") == RULES.pixels("1536x1024") == 1_572_864
    assert RULES.pixels("auto") == RULES.max_pixels
    assert edges("1536x1024") == (1536, 1024)


@pytest.mark.parametrize(
    ("quality", "label"),
    [(None, "auto"), ("auto", "auto"), ("high", "high"), ("HIGH", "other"), ("x" * 10**6, "other")],
)
def test_labels_of_qualities(quality: str | None, label: str) -> None:
    assert quality_label(quality) == label


@pytest.mark.parametrize(
    ("size", "quality", "labels"),
    [
        ("1024x1024", None, ("1024x1024", "auto")),
        ("1536x1024", "high", ("1536x1024", "high")),
        ("auto", "auto", ("auto", "auto")),
        ("1040x1040", "low", ("other", "low")),
        ("1024x1024", "made up", ("1024x1024", "other")),
    ],
)
def test_labels_come_from_the_configuration(
    size: str, quality: str | None, labels: tuple[str, str]
) -> None:
    request = ImageRequest(
        model="gpt-image-2", prompt="p", size=size, n=1, quality=quality, body={}
    )
    assert closed_labels(request, GPT_IMAGE_2) == labels
