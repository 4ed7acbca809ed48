from gateway.core.model import Limits
from gateway.core.periods import Window, day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import EMPTY, Account
from gateway.quota.status import Meter, Standing, standing
from tests.support.quota_steps import NOON

DAY, MONTH = day_of(NOON), month_of(NOON)
UNTIL_DAY, UNTIL_MONTH = end_of_day(DAY) - NOON, end_of_month(MONTH) - NOON


def test_without_limits_there_is_nothing_to_tell() -> None:
    limits = Limits(cost_per_day=1, concurrent_requests=1)
    assert standing([(EMPTY, limits)], NOON) == Standing()


def test_an_untouched_team_has_all_of_it() -> None:
    limits = Limits(requests_per_minute=60, images_per_day=10)
    told = standing([(EMPTY, limits)], NOON)
    assert told == Standing(Meter(60, 60, 0.0), Meter(10, 10, UNTIL_DAY))


def test_open_holds_count_as_used() -> None:
    account = Account(day=Window(DAY, images=3, held_images=4))
    assert standing([(account, Limits(images_per_day=10))], NOON).images == Meter(10, 3, UNTIL_DAY)


def test_nothing_left_is_never_less_than_none() -> None:
    account = Account(day=Window(DAY, images=12), minute=((int(NOON), 9),))
    told = standing([(account, Limits(images_per_day=10, requests_per_minute=5))], NOON)
    assert told.images is not None
    assert told.requests is not None
    assert (told.images.remaining, told.requests.remaining) == (0, 0)


def test_the_tighter_image_limit_is_told() -> None:
    account = Account(Window(DAY, images=3), Window(MONTH, images=99))
    limits = Limits(images_per_day=10, images_per_month=100)
    assert standing([(account, limits)], NOON).images == Meter(100, 1, UNTIL_MONTH)
    account = Account(Window(DAY, images=3), Window(MONTH, images=3))
    assert standing([(account, limits)], NOON).images == Meter(10, 7, UNTIL_DAY)


def test_of_two_limits_equally_tight_the_later_to_open_is_told() -> None:
    account = Account(Window(DAY, images=10), Window(MONTH, images=100))
    limits = Limits(images_per_day=10, images_per_month=100)
    assert standing([(account, limits)], NOON).images == Meter(100, 0, UNTIL_MONTH)


def test_a_former_day_does_not_count() -> None:
    account = Account(Window(DAY - 1, images=10), minute=((int(NOON) - 61, 3),))
    told = standing([(account, Limits(images_per_day=10, requests_per_minute=3))], NOON)
    assert told == Standing(Meter(3, 3, 0.0), Meter(10, 10, UNTIL_DAY))


def test_the_minute_is_whole_when_its_last_purchase_is_past() -> None:
    account = Account(minute=((int(NOON) - 60, 1), (int(NOON) - 9, 2)))
    limits = Limits(requests_per_minute=5)
    told = standing([(account, limits)], NOON).requests
    assert told == Meter(5, 2, 52.0)
    later = standing([(account, limits)], NOON + 52.0).requests
    assert later == Meter(5, 5, 0.0)
    almost = standing([(account, limits)], NOON + 51.999).requests
    assert almost is not None
    assert almost.remaining == 3


def test_the_tighter_of_team_and_key_is_told() -> None:
    team = Account(day=Window(DAY, images=3), minute=((int(NOON), 4),))
    key = Account(day=Window(DAY, images=1), minute=((int(NOON) - 9, 1),))
    wide, narrow = (
        Limits(images_per_day=10, requests_per_minute=9),
        Limits(images_per_month=5, requests_per_minute=2),
    )
    told = standing([(team, wide), (key, narrow)], NOON)
    assert told == Standing(Meter(2, 1, 52.0), Meter(5, 5, UNTIL_MONTH))
    told = standing([(team, narrow), (key, wide)], NOON)
    assert told == Standing(Meter(2, 0, 61.0), Meter(5, 5, UNTIL_MONTH))
    told = standing([(team, Limits()), (key, Limits(images_per_day=2))], NOON)
    assert told == Standing(None, Meter(2, 1, UNTIL_DAY))
