import time
from hashlib import sha256
from itertools import combinations

import pytest

from gateway.upstream.sandbox.png import draw
from tests.support.png import Png, read_png

DIGESTS = [sha256(bytes([number])).digest() for number in range(7)]


def picture(digest: bytes = DIGESTS[0], width: int = 256, height: int = 192, seed: int = 0) -> Png:
    return read_png(draw(digest, width, height, seed))


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
    "size", [(1024, 1024), (480, 1408), (3840, 2160), (1, 1), (2, 1), (7, 300)]
)
def test_a_png_is_valid_and_of_exactly_the_asked_size(size: tuple[int, int]) -> None:
    drawn = picture(DIGESTS[0], *size)
    assert (drawn.width, drawn.height) == size


def test_two_prompts_look_different() -> None:
    for one, other in combinations(map(picture, DIGESTS), 2):
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
    assert len(set(drawn.pixels)) > 64


@pytest.mark.parametrize(("size", "seconds"), [((1024, 1024), 0.05), ((3840, 2160), 0.3)])
def test_drawing_is_quick(size: tuple[int, int], seconds: float) -> None:
    took = []
    for seed in range(3):
        began = time.process_time()
        draw(DIGESTS[0], *size, seed)
        took.append(time.process_time() - began)
    assert min(took) < seconds
