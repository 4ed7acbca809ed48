"""Output that cannot be written: to a full device, to a closed pipe, or to nothing."""

import os
import re
from collections.abc import Callable

import pytest

from tests.support.line import Line, ids

FULL = "Error: Cannot write to standard output: No space left on device.\n"


def full() -> None:
    """Let a new process write to a full device."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def closed() -> None:
    """Close the standard output of a new process."""
    os.close(1)


@pytest.mark.parametrize(
    "command",
    ["--help", "usage --format json", "keys list", "store export", "serve --demo"],
)
def test_a_full_device_ends_a_command_in_one_line(filled: Line, command: str) -> None:
    filled.key()
    ports = {"GATEWAY_SERVER_PORT": "0", "GATEWAY_SERVER_ADMIN_PORT": "0"}
    done = filled.run(*command.split(), before=full, **ports)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("{", "warning"))]
    assert lines == [FULL.strip()]


@pytest.mark.parametrize(
    ("before", "why"),
    [(full, "No space left on device"), (closed, "Bad file descriptor")],
    ids=["full", "closed"],
)
def test_a_key_that_was_not_printed_is_not_lost_silently(
    filled: Line, before: Callable[[], None], why: str
) -> None:
    done = filled.run("keys", "create", "--team", "design", before=before)
    assert done.returncode == 1
    (id,) = ids(filled)
    *_, error = done.stderr.splitlines()
    assert error == (
        f"Error: Cannot write to standard output ({why}): the key {id} exists, but its text is "
        f"lost. Replace it: gateway keys rotate {id} --grace 0s. Or revoke it: gateway keys revoke "
        f"{id}"
    )
    rotated = filled.run("keys", "rotate", id, "--grace", "0s", before=before)
    assert rotated.returncode == 1
    (new,) = (known for known, state in ids(filled).items() if state == "active")
    assert f"gateway keys revoke {new}" in rotated.stderr


def test_a_token_that_was_not_printed_is_not_to_be_used(line: Line) -> None:
    done = line.run("admin", "token", "bob", before=full)
    assert done.returncode == 1
    assert done.stderr.endswith("Do not add its lines to gateway.toml; create another one.\n")


def test_a_key_is_printed_even_if_the_messages_cannot_be(filled: Line) -> None:
    def full_messages() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)

    done = filled.run("keys", "create", "--team", "design", before=full_messages)
    assert re.fullmatch(r"sk-gw-\w+\n", done.stdout)


def test_a_closed_pipe_ends_a_command_quietly(filled: Line) -> None:
    def unread() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, 1)

    done = filled.run("teams", "list", before=unread)
    assert (done.returncode, done.stderr) == (1, "")
