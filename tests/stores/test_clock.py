from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.clock import StoreClock

START = 1_772_323_200.0
ROUNDING = 1e-5
"""Seconds: floats of this size are a quarter of a microsecond apart."""


@dataclass
class Clocks:
    wall: float = START
    tick: float = 1000.0

    def store_clock(self) -> StoreClock:
        return StoreClock(lambda: self.wall, lambda: self.tick)


moments = st.tuples(
    st.floats(-1e8, 1e8),  # a jump of the wall clock
    st.floats(0, 1e6) | st.just(0.0),  # seconds that pass
    st.just(float("-inf")) | st.floats(0, 2 * START),  # the store's mark
)


@given(st.lists(moments, max_size=50))
def test_it_never_runs_backwards_and_never_slower_than_time_passes(
    history: list[tuple[float, float, float]],
) -> None:
    clocks = Clocks()
    clock = clocks.store_clock()
    former = clock.read()
    assert former == START
    for jump, passed, mark in history:
        clocks.wall += jump + passed
        clocks.tick += passed
        now = clock.read(mark)
        assert now >= max(former, mark, clocks.wall)
        # It is no further ahead than these three make it.
        assert abs(now - max(former + passed, mark, clocks.wall)) <= ROUNDING
        former = now


def test_steps_too_small_to_add_up_one_by_one_still_count() -> None:
    clocks = Clocks(wall=START + 3600)
    clock = clocks.store_clock()
    clock.read()
    clocks.wall = START  # from now on only the monotonic clock moves it
    for _ in range(100_000):
        clocks.tick += 1e-8
        clock.read()
    assert clock.read() - (START + 3600) > 0.9e-3


def test_a_wall_clock_set_right_again_leaves_it_going() -> None:
    clocks = Clocks(wall=START + 3600)
    clock = clocks.store_clock()
    clock.read()
    clocks.wall = START
    clocks.tick += 10
    assert clock.read() == START + 3610


def test_a_clock_made_later_starts_from_the_mark() -> None:
    clocks = Clocks()
    mark = START + 3600
    clock = clocks.store_clock()
    assert clock.read(mark) == mark
    clocks.tick += 5
    assert clock.read(mark) == mark + 5
