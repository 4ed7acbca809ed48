"""URLs of stores: valid ones of every kind, and invalid ones."""

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
def test_a_valid_url(text: str, url: StoreUrl) -> None:
    assert parse_store_url(text) == url


PATH = "sqlite: must be followed by"
SCHEME = "it must start with sqlite: or redis://"
SPECIAL = "special characters in user and password must be percent-encoded"


@pytest.mark.parametrize(
    ("problem", "texts"),
    [
        (SCHEME, ("", "data/x.db", "postgres://h/db", "http://h", "redis:h", "REDIS://h")),
        (SCHEME, ("SQLITE:x", "redis+other://h")),
        (PATH, ("sqlite:", "sqlite://data/x", "sqlite:///data/x", "sqlite::memory:")),
        (PATH, ("sqlite:\n", "sqlite:x?mode=ro", "sqlite:x#y")),
        (SPECIAL, ("redis://", "redis://a@b@c", "redis://me:p/w@h", "redis://h#x", "redis://h h")),
        (SPECIAL, ("redis://h/1\n", "redis://h/1/2/3")),
        ("only redis.cluster:// and redis.sentinel:// take several", ("redis://a,b",)),
        ("a port must be a number", ("redis://h:0", "redis://h:65536")),
        ("a server must be a host name", ("redis://h:x", "redis://h_:x")),
        ("the database must be a number", ("redis://h/x", "redis://h/1/2")),
        ("a cluster has one database", ("redis+cluster://h/1",)),
        ("the service name is missing", ("redis+sentinel://h", "redis+sentinel://h/")),
        ("only ssl_ca_certs=FILE may follow", ("redis://h?db=1", "rediss://h?ssl_ca_certs=")),
        ("ssl_ca_certs needs rediss://", ("redis://h?ssl_ca_certs=/x",)),
    ],
)
def test_an_invalid_url_is_refused_without_an_echo(problem: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=f"^{problem}") as caught:
            parse_store_url(text)
        assert len(text) < 8 or text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:data/x.db", "sqlite:data/x.db"),
        ("redis://me:CANARY@h", "redis://h:6379/0"),
        ("rediss+cluster://:CANARY@[::1],b:1", "rediss+cluster://[::1]:6379,b:1"),
        ("redis+sentinel://:CANARY@a/main/2", "redis+sentinel://a:26379/main/2"),
    ],
)
def test_people_see_no_credentials(text: str, shown: str) -> None:
    assert parse_store_url(text).shown == shown
    assert "CANARY" not in repr(parse_store_url(text))
