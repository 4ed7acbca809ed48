"""The addresses that count as one client."""

import pytest

from gateway.web.addresses import client_network

SAME = [
    ("192.0.2.1", "192.0.2.1"),
    ("192.0.2.1", "::ffff:192.0.2.1"),
    ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"),
    ("fe80::1%eth0", "fe80::2"),
]
OTHER = [
    ("192.0.2.1", "192.0.2.2"),
    ("2001:db8:0:1::1", "2001:db8:0:2::1"),
    ("192.0.2.1", "::ffff:192.0.2.2"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_client(one: str, other: str) -> None:
    assert client_network(one) == client_network(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_two_clients(one: str, other: str) -> None:
    assert client_network(one) != client_network(other)
