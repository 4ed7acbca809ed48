"""URLs of stores: what each kind says, and what is refused without an echo."""

import pytest

from gateway.config.store_url import StoreUrl, parse_store_url
from gateway.core.secret import Secret

GOOD = {
    "sqlite:data/gateway.db": StoreUrl(kind="sqlite", path="data/gateway.db"),
    "sqlite:/var/lib/gateway.db": StoreUrl(kind="sqlite", path="/var/lib/gateway.db"),
    "redis://localhost": StoreUrl(kind="redis", nodes=(("localhost", 6379),)),
    "redis://10.0.0.1:7000/3": StoreUrl(kind="redis", nodes=(("10.0.0.1", 7000),), db=3),
    "redis://[::1]:7000/": StoreUrl(kind="redis", nodes=(("::1", 7000),)),
    "redis://:p%40ss@h": StoreUrl(kind="redis", nodes=(("h", 6379),), password=Secret("p@ss")),
    "rediss://me:p@h": StoreUrl(
        kind="redis", nodes=(("h", 6379),), user="me", password=Secret("p"), tls=True
    ),
    "rediss://h?ssl_ca_certs=/etc/ca.pem": StoreUrl(
        kind="redis", nodes=(("h", 6379),), tls=True, ca_certs="/etc/ca.pem"
    ),
    "redis+cluster://a:1,b": StoreUrl(kind="cluster", nodes=(("a", 1), ("b", 6379))),
    "rediss+cluster://a": StoreUrl(kind="cluster", nodes=(("a", 6379),), tls=True),
    "redis+sentinel://a,b:7/main": StoreUrl(
        kind="sentinel", nodes=(("a", 26379), ("b", 7)), service="main"
    ),
    "redis+sentinel://a/main/2": StoreUrl(
        kind="sentinel", nodes=(("a", 26379),), service="main", db=2
    ),
}


@pytest.mark.parametrize(("text", "url"), GOOD.items(), ids=GOOD)
def test_what_a_url_says(text: str, url: StoreUrl) -> None:
    assert parse_store_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        *("", "data/x.db", "postgres://h/db", "http://h", "redis:h", "redis://", "REDIS://h"),
        *("sqlite:", "sqlite://data/x", "sqlite:///data/x", "sqlite::memory:", "SQLITE:x"),
        *("sqlite:\n", "sqlite:x?mode=ro", "sqlite:x#y"),
        *("redis://a,b", "redis://h:0", "redis://h:65536", "redis://h:x", "redis://h/x"),
        *("redis://h/1/2", "redis://h?db=1", "redis://h#x", "redis://h h", "redis://a@b@c"),
        *("redis://h?ssl_ca_certs=/x", "rediss://h?ssl_ca_certs=", "redis://h/1\n"),
        *("redis+cluster://h/1", "redis+sentinel://h", "redis+sentinel://h/", "redis+other://h"),
    ],
)
def test_what_is_no_url_of_a_store(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(not|no|several) ") as caught:
        parse_store_url(text)
    assert len(text) < 3 or text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("sqlite:///data/x", "not the path of a file"),
        ("postgres://h/db", "no scheme"),
        ("redis://a@b@c", "not a URL: special characters"),
        ("redis://me:p/w@h", "not a URL: special characters"),
        ("redis://a,b", "several servers"),
        ("redis://h_:x", "not a server"),
        ("redis://h:0", "not a port"),
        ("redis://h/x", "not a database"),
        ("redis+cluster://h/1", "no path may follow"),
        ("redis+sentinel://h", "no service"),
        ("rediss://h?db=1", "not an option"),
        ("redis://h?ssl_ca_certs=/x", "not encrypted"),
    ],
)
def test_the_part_that_is_wrong_is_told(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=f"^{part}"):
        parse_store_url(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:data/x.db", "sqlite:data/x.db"),
        ("redis://me:CANARY@h", "redis://h:6379/0"),
        ("rediss+cluster://:CANARY@[::1],b:1", "rediss+cluster://[::1]:6379,b:1"),
        ("redis+sentinel://:CANARY@a/main/2", "redis+sentinel://a:26379/main/2"),
    ],
)
def test_what_people_see_of_it(text: str, shown: str) -> None:
    assert parse_store_url(text).shown == shown
    assert "CANARY" not in repr(parse_store_url(text))
