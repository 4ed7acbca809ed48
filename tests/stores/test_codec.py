from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Limits, Team
from gateway.core.periods import PeriodUsage
from gateway.quota.account import EMPTY, Account, Hold
from gateway.stores.codec import decode_account, decode_team, encode_account
from tests.support.states import accounts

# Values that schema 1 wrote. Gateways read them for ever, or the schema gets a new version.
ACCOUNT = Account(
    day=PeriodUsage(20513, 1, 2, 3, 4),
    month=PeriodUsage(24314, 5, 6, 7, 8),
    minute=((1772366400, 2),),
    holds={
        "a": Hold(
            1772366400.5, 1772366705.5, "k1", "gpt-image-2", "1024x1024", "high", 1, 211000, True
        )
    },
    swept={"b": Hold(1.0, 2.0, "k2", "m", "auto", "auto", 2, 9, False)},
)
ACCOUNT_BYTES = bytes.fromhex(
    "9595cd50210102030495cd5efa050607089192ce69a42a400281a16199cb41da690a90200000cb41da690adc60"
    "0000a26b31ab6770742d696d6167652d32a9313032347831303234a46869676801ce00033838c381a16299cb3f"
    "f0000000000000cb4000000000000000a26b32a16da46175746fa46175746f0209c2"
)
TEAM = Team(name="red", models=("m",), limits=Limits(images_per_day=3))
TEAM_TEXT = (
    '{"name":"red","models":["m"],"sizes":null,"qualities":null,"max_n":null,"cache":true,'
    '"limits":{"images_per_day":3,"images_per_month":null,"cost_per_day":null,'
    '"cost_per_month":null,"requests_per_minute":null,"concurrent_requests":null}}'
)


def test_values_of_schema_1_can_be_read() -> None:
    assert decode_account(ACCOUNT_BYTES) == ACCOUNT
    assert decode_team(TEAM_TEXT) == TEAM
    assert decode_team(TEAM_TEXT.encode()) == TEAM


def test_fields_that_an_older_gateway_did_not_know_get_their_defaults() -> None:
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(ACCOUNT_BYTES)[:2])
    assert decode_account(older) == Account(ACCOUNT.day, ACCOUNT.month)
    assert decode_team('{"name":"red"}') == Team(name="red")


@given(accounts)
def test_an_account_comes_back_as_it_was(account: Account) -> None:
    assert decode_account(encode_account(account)) == account


@given(accounts, st.data())
def test_bytes_that_were_cut_off_are_never_an_account(account: Account, data: Any) -> None:
    state = encode_account(account)
    length = data.draw(st.integers(0, len(state) - 1))
    with pytest.raises(msgspec.DecodeError):
        decode_account(state[:length])


def test_bytes_that_mean_something_else_are_never_an_account() -> None:
    for state in (b"", b"\0", b"\x80", b"\x91\x01", ACCOUNT_BYTES + b"\0", b"\0" * 200):
        with pytest.raises(msgspec.DecodeError):
            decode_account(state)


def test_an_empty_account_is_small() -> None:
    assert len(encode_account(EMPTY)) < 20
