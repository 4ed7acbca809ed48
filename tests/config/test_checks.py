"""Settings that do not fit together."""

import pytest

from gateway.config.checks import ALWAYS, DOUBTS, WITH_UPSTREAM, broken
from gateway.config.settings import ServerSettings, Settings, UpstreamSettings
from gateway.core.secret import Secret

KEYED = UpstreamSettings(base_url="https://h", api_key=Secret("sk-1"))


def blamed(settings: Settings) -> list[str]:
    return [".".join(name) for name, _ in broken(ALWAYS, settings, ())]


@pytest.mark.parametrize(
    ("host", "port", "admin_host", "admin_port", "clash"),
    [
        ("127.0.0.1", 80, "127.0.0.1", 80, True),
        ("127.0.0.1", 80, "127.0.0.1", 81, False),
        ("127.0.0.1", 80, "127.0.0.2", 80, False),
        ("0.0.0.0", 80, "127.0.0.1", 80, True),
        ("127.0.0.1", 80, "::", 80, True),
        ("0.0.0.0", 0, "0.0.0.0", 0, False),
    ],
)
def test_ports(host: str, port: int, admin_host: str, admin_port: int, clash: bool) -> None:
    server = ServerSettings(host=host, port=port, admin_host=admin_host, admin_port=admin_port)
    assert blamed(Settings(server=server)) == (["server.admin_port"] if clash else [])


@pytest.mark.parametrize(
    ("cert", "key", "missing"),
    [
        (None, None, []),
        ("a.crt", "a.key", []),
        ("a.crt", None, ["server.tls_key"]),
        (None, "a.key", ["server.tls_cert"]),
    ],
)
def test_certificate_and_key(cert: str | None, key: str | None, missing: list[str]) -> None:
    assert blamed(Settings(server=ServerSettings(tls_cert=cert, tls_key=key))) == missing


@pytest.mark.parametrize(
    ("connect", "total", "clash"), [(5, 5.1, False), (5, 5, True), (6, 5, True)]
)
def test_timeouts(connect: float, total: float, clash: bool) -> None:
    upstream = UpstreamSettings(connect_seconds=connect, timeout_seconds=total)
    assert blamed(Settings(upstream=upstream)) == (["upstream.timeout_seconds"] if clash else [])


@pytest.mark.parametrize(
    ("upstream", "missing"),
    [
        (KEYED, []),
        (UpstreamSettings(base_url="https://h", api_key_file="key"), []),
        (UpstreamSettings(base_url="https://h"), ["upstream.api_key_file"]),
        (UpstreamSettings(api_key=Secret("sk-1")), ["upstream.base_url"]),
        (UpstreamSettings(), ["upstream.base_url", "upstream.api_key_file"]),
    ],
)
def test_requirements_of_serving(upstream: UpstreamSettings, missing: list[str]) -> None:
    settings = Settings(upstream=upstream)
    assert [".".join(name) for name, _ in broken(WITH_UPSTREAM, settings, ())] == missing


@pytest.mark.parametrize(
    ("base_url", "path", "doubtful"),
    [
        ("https://h", "/api/v1/images/generations", False),
        ("https://h/v1", "/api/v1/images/generations", True),
        ("https://h/api/v1", "/v1/images/generations", True),
        ("https://h/v1", "/images/generations", False),
        ("https://h/v10", "/v1/images", False),
    ],
)
def test_a_version_twice(base_url: str, path: str, doubtful: bool) -> None:
    settings = Settings(upstream=UpstreamSettings(base_url=base_url, path=path))
    doubts = [text for _, text in broken(DOUBTS, settings, ())]
    assert [f"will call {base_url}{path}. " in text for text in doubts] == [True] * doubtful


def test_a_key_in_the_url_is_redacted() -> None:
    settings = Settings(upstream=UpstreamSettings(base_url="https://h/sk-abcdefgh/v1"))
    ((_, text),) = broken(DOUBTS, settings, ())
    assert "will call https://h/[redacted]/v1/api/v1/images/generations. " in text


def test_wrong_options_are_left_alone() -> None:
    settings = Settings(upstream=UpstreamSettings(connect_seconds=2, timeout_seconds=1))
    for name in ("upstream.connect_seconds", "upstream.timeout_seconds"):
        assert not list(broken(ALWAYS, settings, {name}))
    assert list(broken(ALWAYS, settings, {"cache.ttl_seconds"}))
