"""The upstream key, and changes of its file."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway.config.live import LiveSettings
from gateway.config.settings import Settings, UpstreamSettings
from gateway.core.secret import Secret
from gateway.telemetry.logging import configure_logs
from gateway.upstream.credentials import KeyFileWatcher, with_key

OLD, NEW = Secret("sk-canary-old"), Secret("sk-canary-new")


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logs("info", "json", stream)
    structlog.configure(cache_logger_on_first_use=False)  # the next test has another stream
    yield stream
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(OLD.reveal() + "\n")
    return path


def watching(file: Path, key: Secret | None = None) -> tuple[UpstreamSettings, KeyFileWatcher]:
    """Return the settings with this file, and what watches it."""
    settings = with_key(UpstreamSettings(api_key=key, api_key_file=str(file)))
    return settings, KeyFileWatcher(LiveSettings(Settings(upstream=settings)))


def faults(logged: io.StringIO) -> list[str]:
    text = logged.getvalue()
    assert "canary" not in text
    return [json.loads(line)["fault"] for line in text.splitlines()]


def test_the_key_comes_from_the_environment_or_a_file(file: Path) -> None:
    settings = with_key(UpstreamSettings(api_key_file=str(file)))
    assert (settings.key, settings.api_key_file) == (OLD.reveal(), str(file))
    settings = with_key(UpstreamSettings(api_key=NEW, api_key_file=str(file)))
    assert (settings.key, settings.api_key_file) == (NEW.reveal(), None)
    with pytest.raises(ValueError, match="no upstream key is set"):
        with_key(UpstreamSettings())


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xff\x00", b"\xc3"])
def test_a_file_without_a_valid_key(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match="must contain one line of printable ASCII"):
        with_key(UpstreamSettings(api_key_file=str(file)))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'"sk-canary"\n', "has quotes around it: remove them"),
        (b"'sk-canary'\r\n", "has quotes around it: remove them"),
        (b"\xef\xbb\xbfsk-canary\n", "begins with a byte order mark: save it without one"),
    ],
)
def test_quotes_and_a_byte_order_mark_are_a_fault_that_says_so(
    file: Path, content: bytes, fault: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^the content of the file {file} {fault}$"):
        with_key(UpstreamSettings(api_key_file=str(file)))


def test_line_ends_of_windows_are_no_part_of_a_key(file: Path) -> None:
    file.write_bytes(b"sk-canary\r\n")
    assert with_key(UpstreamSettings(api_key_file=str(file))).key == "sk-canary"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        with_key(UpstreamSettings(api_key_file=str(tmp_path)))


def test_a_new_key_is_used_from_the_second_check(file: Path) -> None:
    settings, watch = watching(file)
    assert watch.look(settings) is None
    assert watch.look(settings) is None
    file.write_text(NEW.reveal())
    assert watch.look(settings) is None
    changed = watch.look(settings)
    assert changed is not None
    assert changed.key == NEW.reveal()
    assert watch.look(changed) is None


def test_a_file_that_is_being_written_is_left_alone(file: Path) -> None:
    settings, watch = watching(file)
    for end in range(3, 9):
        file.write_text(NEW.reveal()[:end])
        assert watch.look(settings) is None


def test_a_key_of_the_environment_is_never_replaced(file: Path) -> None:
    settings, watch = watching(file, NEW)
    assert [watch.look(settings) for _ in range(3)] == [None] * 3


def test_a_link_that_is_replaced(tmp_path: Path, file: Path) -> None:
    """As Kubernetes does: key -> ..data/key, ..data -> a directory, renamed over."""
    for name, key in (("1", OLD), ("2", NEW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(key.reveal())
    data, turned, link = tmp_path / "..data", tmp_path / "..new", tmp_path / "link"
    data.symlink_to("1")
    link.symlink_to("..data/key")
    settings, watch = watching(link)
    assert settings.key == OLD.reveal()
    turned.symlink_to("2")
    turned.rename(data)
    watch.look(settings)
    changed = watch.look(settings)
    assert changed is not None
    assert changed.key == NEW.reveal()


def test_a_fault_keeps_the_key_and_is_logged_once(file: Path, logged: io.StringIO) -> None:
    settings, watch = watching(file)
    file.write_text("")
    assert [watch.look(settings) for _ in range(3)] == [None] * 3
    file.unlink()
    assert [watch.look(settings) for _ in range(3)] == [None] * 3
    file.write_text(OLD.reveal())
    assert [watch.look(settings) for _ in range(3)] == [None] * 3
    assert faults(logged) == [
        f"the file {file} must contain one line of printable ASCII without spaces",
        f"the file {file} cannot be read: No such file or directory",
    ]


def test_a_key_given_as_the_file_name_is_not_shown() -> None:
    key = "sk-proj-0123456789abcdef"
    with pytest.raises(ValueError, match="cannot be read") as caught:
        with_key(UpstreamSettings(base_url="https://h", api_key_file=key))
    assert "0123456789" not in str(caught.value)
