import time
from itertools import combinations

import pytest

from gateway.upstream.sandbox.png import draw, draw_digest, prompt_digest
from tests.support.png import Png, read_png

PROMPTS = ["a red apple", "a red apple ", "a green apple", "", "ein Haus am See", "林檎", "\ud800"]


def picture(prompt: str = "a red apple", width: int = 256, height: int = 192, seed: int = 0) -> Png:
    return read_png(draw(prompt, width, height, seed))


def distance(one: Png, other: Png) -> float:
    """Return the mean difference of the pixels of two pictures of one size: 0 to 1."""
    pixels = list(zip(one.pixels[::97], other.pixels[::97], strict=True))
    apart = sum(
        abs(one.palette[3 * a + part] - other.palette[3 * b + part])
        for a, b in pixels
        for part in range(3)
    )
    return apart / (3 * 255 * len(pixels))


@pytest.mark.parametrize(
    "size",
    [(1024, 1024), (1536, 1024), (480, 1408), (3840, 2160), (1, 1), (2, 1), (1, 9), (7, 300)],
)
def test_a_png_is_valid_and_of_exactly_the_asked_size(size: tuple[int, int]) -> None:
    drawn = picture("a red apple", *size)
    assert (drawn.width, drawn.height) == size


def test_the_same_prompt_draws_the_same() -> None:
    assert draw("a red apple", 64, 64, 3) == draw("a red apple", 64, 64, 3)
    assert draw("a red apple", 64, 64, 3) == draw_digest(prompt_digest("a red apple"), 64, 64, 3)


def test_two_prompts_look_different() -> None:
    for one, other in combinations(map(picture, PROMPTS), 2):
        assert distance(one, other) > 0.08


def test_images_of_one_request_differ_and_share_their_colours() -> None:
    family = [picture(seed=seed) for seed in range(10)]
    for one, other in combinations(family, 2):
        assert one.palette == other.palette
        assert distance(one, other) > 0.05


def test_a_picture_is_mirrored_left_to_right_and_has_all_its_colours() -> None:
    drawn = picture(width=240, height=240)
    for y in range(240):
        ramps = [number // 64 for number in drawn.row(y)]
        apart = sum(a != b for a, b in zip(ramps, reversed(ramps), strict=True))
        assert apart <= 16  # edges fall on whole pixels
    assert {number // 64 for number in drawn.pixels} == {0, 1, 2, 3}
    assert len(drawn.colours()) > 64


@pytest.mark.parametrize(("size", "seconds"), [((1024, 1024), 0.05), ((3840, 2160), 0.3)])
def test_drawing_is_quick(size: tuple[int, int], seconds: float) -> None:
    took = []
    for seed in range(3):
        began = time.process_time()
        draw("a red apple", *size, seed)
        took.append(time.process_time() - began)
    assert min(took) < seconds
