"""A secret shows itself nowhere but where it is asked to."""

import logging

import pytest

from gateway.config.settings import KeySettings, Settings, UpstreamSettings
from gateway.core.secret import Secret

TEXT = "sk-canary-1234567890"


def test_reveals_only_when_asked() -> None:
    assert Secret(TEXT).reveal() == TEXT


@pytest.mark.parametrize(
    "show",
    [str, repr, "{}".format, "{!r}".format],
)
def test_prints_as_stars(show: type[str]) -> None:
    assert show(Secret(TEXT)) == "Secret(***)"


def test_hides_inside_settings() -> None:
    upstream, keys = UpstreamSettings(api_key=Secret(TEXT)), KeySettings(pepper=Secret(TEXT))
    assert "canary" not in repr(Settings(upstream=upstream, keys=keys))


def test_hides_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger(__name__).error("%s %r", Secret(TEXT), {"key": Secret(TEXT)})
    assert "canary" not in caplog.text


def test_compares_by_text() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT
    assert len({Secret(TEXT), Secret(TEXT)}) == 1
