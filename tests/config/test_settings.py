"""The bounds of each option. tests/config/test_reference.py has the defaults."""

from pathlib import Path

import pytest

from gateway.config.images import ImagesSettings
from gateway.config.settings import (
    OPTIONS,
    SECTIONS,
    CacheSettings,
    Settings,
    StoreSettings,
)
from gateway.config.store_url import StoreUrl


def is_valid(name: str, value: object) -> bool:
    section, _, option = name.partition(".")
    try:
        OPTIONS[section][option].convert(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("section", SECTIONS)
def test_every_default_is_valid(section: str) -> None:
    values = SECTIONS[section]()
    for name in OPTIONS[section]:
        value = getattr(values, name)
        assert value is None or is_valid(f"{section}.{name}", value), name


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("", ""),
        ("https://images.example.com", "https://images.example.com"),
        ("http://127.0.0.1:8081/", "http://127.0.0.1:8081"),
        ("https://example.com/proxy//", "https://example.com/proxy"),
        ("HTTPS://[::1]:8443", "HTTPS://[::1]:8443"),
    ],
)
def test_base_urls(url: str, kept: str) -> None:
    assert OPTIONS["upstream"]["base_url"].convert(url) == kept


BAD_URLS = [
    *("example.com", "//example.com", "ftp://example.com", "http:", "http://", "https:///path"),
    *("http://user@example.com", "http://user:pass@example.com", "http://@example.com"),
    *("http://h?key=1", "http://h?", "http://h/#top", "http://h#", "http://h/a b", " http://h"),
    *("http://h\n", "http://h\t", "http://h:port", "http://h:70000", "http://h:0"),
    *("http://h\\path", "http://h/%2e", "http://:80", "http://h\u200b", 1, True, ["http://h"]),
    *("http://[::1", f"http://{'a' * 64}.com"),
]


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        (
            "server.host",
            ["0.0.0.0", "::", "fe80::1%eth0", "localhost", "a-b.c", ["127.0.0.1", "::1"], ["h"]],
            [
                *("", " ", "a b", "h/", "http://h", "a,b", [], [""], ["h", 1], ["a b"], 1),
                *("127.0.0.1:80", "h:80", "[::1]", ":80", ["::1", "h:80"]),
            ],
        ),
        ("server.port", [0, 1, 65_535], [-1, 65_536, 80.0, "80", True]),
        ("server.drain_notice_seconds", [0, 0.1, 86_400], [-0.1, 86_401, "1"]),
        ("server.drain_seconds", [0, 0.1, 86_400], [-0.1, 86_401, "1"]),
        ("server.max_body_bytes", [1, 2**40], [0, -1, 2**40 + 1, 1.5]),
        ("server.max_in_flight", [1, 1_000_000], [0, 1_000_001]),
        ("upstream.path", ["/", "/v1/images"], ["", "v1", "/a?b", "/a#b", "/a b", "/a\n", "/ü"]),
        ("upstream.api_key_file", ["/run/secrets/key"], ["", "a\x00", "a\n", 1]),
        ("upstream.connect_seconds", [0.001, 5], [0, -1, 86_401]),
        ("upstream.timeout_seconds", [0.001, 300], [0, -1, 86_401]),
        ("keys.pepper_file", ["data/pepper", "/a b/ü"], ["", "\x7f", None, False]),
        ("cache.ttl_seconds", [0.5, 86_400 * 365], [0, -1, 10**9]),
        ("cache.url_ttl_seconds", [1], [0, -1]),
        (
            "cache.ignore_fields",
            [[], ["user"], ["n2"]],
            [["n"], ["a", "prompt"], [""], "user", [1]],
        ),
        (
            "server.allowed_origins",
            [["https://a.example", "http://localhost:3000", "app://x", "http://[::1]:1"], ["*"]],
            [
                ["a.example"],
                ["https://a.example/"],
                ["null"],
                ["https://*.a"],
                "*",
                [""],
                ["a b://c"],
            ],
        ),
        ("cache.ignore_fields", [["models"]], [["size"], ["model"], ["a\n"]]),
        ("limits.images_per_day", [0, 1, 10**12], [-1, 1.0, "1", True, 10**12 + 1]),
        ("limits.cost_per_day_usd", [0, "0.5", 0.5, 10], [-1, True, "0.0000001", 1e-7, 10**9 + 1]),
        ("usage.keep_days", [0, 32, 400], [-1, 1, 31, 36_501]),
        ("log.level", ["debug", "info", "warning", "error"], ["warn", "debug ", "", 1]),
        ("log.format", ["auto", "json", "console"], ["text", "", True]),
        ("upstream.base_url", ["", "https://h"], BAD_URLS),
        ("upstream.api_key", ["sk-1"], ["a\nb", "a b", "ü", ""]),
        ("keys.pepper", ["x" * 16, "ü" * 8], ["x" * 15]),
        (
            "store.url",
            ["redis://h", "redis+sentinel://h/m", "sqlite:x"],
            ["postgres://h/db", ""],
        ),
        (
            "cache.url",
            ["redis://h", "redis+sentinel://h/m", ""],
            ["postgres://h/db", "sqlite:x"],
        ),
        (
            "images.url",
            [
                *("file:data/images", "file:/a b"),
                *("s3://a-bucket", "s3://my.bucket/", "s3://bucket/some/pre.fix_1/"),
            ],
            [
                *("", "data/images", "file:", "file:///a", "s3:bucket", "s3://", "s3:///prefix"),
                *("s3://Bucket", "s3://b", "s3://bucket//a", "s3://bucket/a//b", "s3://bucket/a b"),
                *("s3://key:secret@bucket", "s3://bucket?region=a", "s3://bucket/../a", "S3://a-b"),
            ],
        ),
        ("images.credentials_file", ["/run/secrets/bucket"], ["", "a\n"]),
        (
            "images.fetch_hosts",
            [["pictures.test", "10.0.0.1"], ["fd00::1"], []],
            [["pictures.test:8443"], ["*.test"], ["https://pictures.test"], [""]],
        ),
    ],
)
def test_bounds(option: str, good: list[object], bad: list[object]) -> None:
    assert [value for value in good if not is_valid(option, value)] == []
    assert [value for value in bad if is_valid(option, value)] == []


def test_urls_are_taken_apart() -> None:
    assert StoreSettings(url="sqlite:x").place == StoreUrl(kind="sqlite", path="x")
    assert CacheSettings().place is None
    assert CacheSettings(url="redis://h").place == StoreUrl(kind="redis", nodes=(("h", 6379),))


@pytest.mark.parametrize("option", ["store.url", "cache.url"])
def test_a_url_with_a_password_is_the_environments(option: str) -> None:
    section, _, name = option.partition(".")
    checked = OPTIONS[section][name]
    assert checked.convert("redis://:pw@h") == "redis://:pw@h"
    with pytest.raises(ValueError, match="password"):
        checked.check_in_file("redis://:pw@h")
    checked.check_in_file("redis://user@h")


def test_secrets() -> None:
    secrets = [name for options in OPTIONS.values() for name in options if options[name].is_secret]
    assert sorted(secrets) == ["api_key", "pepper", "token"]


def test_pictures_are_kept_in_a_folder() -> None:
    images = Settings().images
    assert (images.folder, images.is_bucket) == (Path("data/images"), False)


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("s3://a.bucket", ""), ("s3://a.bucket/", ""), ("s3://a.bucket/b/c/", "b/c")],
)
def test_pictures_are_kept_in_a_bucket(url: str, prefix: str) -> None:
    images = ImagesSettings(url=url)
    assert (images.bucket, images.is_bucket) == (("a.bucket", prefix), True)
