from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Team
from gateway.core.periods import PeriodUsage
from gateway.quota.account import EMPTY, Account, Hold
from gateway.stores.codec import decode_account, decode_team, encode_account
from tests.support.states import accounts

# As schema 1 wrote it: see `sqlite/schema_1.sql`. Gateways read that for ever.
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


def test_fields_that_an_older_gateway_did_not_know_get_their_defaults() -> None:
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(encode_account(ACCOUNT))[:2])
    assert decode_account(older) == Account(ACCOUNT.day, ACCOUNT.month)
    assert decode_team('{"name":"red"}') == Team(name="red")


@given(accounts, st.data())
def test_bytes_that_were_cut_off_are_never_an_account(account: Account, data: Any) -> None:
    state = encode_account(account)
    length = data.draw(st.integers(0, len(state) - 1))
    with pytest.raises(msgspec.DecodeError):
        decode_account(state[:length])


def test_bytes_that_mean_something_else_are_never_an_account() -> None:
    for state in (b"", b"\0", b"\x80", b"\x91\x01", encode_account(ACCOUNT) + b"\0", b"\0" * 200):
        with pytest.raises(msgspec.DecodeError):
            decode_account(state)


def test_an_empty_account_is_small() -> None:
    assert len(encode_account(EMPTY)) < 20
