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
        kind="redis", nodes=(("h", 6379),), tls=True, tls_files={"ssl_ca_certs": "/etc/ca.pem"}
    ),
    "rediss+cluster://h?ssl_certfile=/c%26+&ssl_keyfile=k": StoreUrl(
        kind="cluster",
        nodes=(("h", 6379),),
        tls=True,
        tls_files={"ssl_certfile": "/c&+", "ssl_keyfile": "k"},
    ),
    "redis+unix:///run/redis.sock": StoreUrl(kind="redis", path="/run/redis.sock"),
    "unix://me:p%40@/run/a%3Fb?db=3": StoreUrl(
        kind="redis", path="/run/a?b", user="me", password=Secret("p@"), db=3
    ),
    "redis+cluster://a:1,b": StoreUrl(kind="cluster", nodes=(("a", 1), ("b", 6379))),
    "rediss+cluster://a": StoreUrl(kind="cluster", nodes=(("a", 6379),), tls=True),
    "redis+sentinel://a,b:7/main": StoreUrl(
        kind="sentinel", nodes=(("a", 26379), ("b", 7)), service="main"
    ),
    "redis+sentinel://a/main?sentinel_user=s&sentinel_password=w%3D+": StoreUrl(
        kind="sentinel",
        nodes=(("a", 26379),),
        service="main",
        sentinel_user="s",
        sentinel_password=Secret("w=+"),
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
        (
            "only these may follow the [?], each once and with a value: ssl_ca_certs, ssl_certfile",
            (
                *("redis://h?db=1", "rediss://h?ssl_ca_certs=", "rediss://h?", "redis://h?x=y"),
                "rediss://h?ssl_ca_certs=a&ssl_ca_certs=b",
            ),
        ),
        ("only these may follow the [?], each once and with a value: db", ("unix:///x?ssl=1",)),
        ("the database must be a number", ("redis+unix:///x?db=one",)),
        ("ssl_ca_certs needs rediss://", ("redis://h?ssl_ca_certs=/x",)),
        ("ssl_certfile and ssl_keyfile need each other", ("rediss://h?ssl_certfile=/x",)),
        ("sentinel_password needs redis.sentinel://", ("redis://h?sentinel_password=x",)),
        ("sentinel_user needs sentinel_password", ("redis+sentinel://h/x?sentinel_user=x",)),
        ("the path of a Unix socket must be absolute", ("redis+unix://", "unix://tmp/r.sock")),
        (SPECIAL, ("redis+unix://h/x@y", "unix://me:p/w@/x")),
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
        ("redis+sentinel://a/m?sentinel_password=CANARY", "redis+sentinel://a:26379/m/0"),
        ("unix://:CANARY@/run/redis.sock?db=1", "redis+unix:///run/redis.sock?db=1"),
    ],
)
def test_people_see_no_credentials(text: str, shown: str) -> None:
    assert parse_store_url(text).shown == shown
    assert "CANARY" not in repr(parse_store_url(text))
