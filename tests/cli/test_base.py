"""How failures of commands end."""

import sqlite3

import click
import pytest
from click.testing import CliRunner

from gateway.cli.base import Command, Group, InvalidInput
from gateway.core.errors import StoreUnavailable
from gateway.core.faults import ConfigError, Fault
from gateway.server.startup import StartError
from gateway.tenants.changes import OperationError


def store_failure(cause: Exception | None) -> StoreUnavailable:
    failure = StoreUnavailable()
    failure.__cause__ = cause
    return failure


@pytest.mark.parametrize(
    ("failure", "code", "shown"),
    [
        (ConfigError([Fault((), "b", "a"), Fault(("c",), "d")]), 2, "a: b\n[c]: d\n"),
        (InvalidInput(["a: b"]), 2, "a: b\n"),
        (StartError("Port 80 is taken."), 1, "Error: Port 80 is taken.\n"),
        (OperationError("There is no team x."), 1, "Error: There is no team x.\n"),
        (store_failure(None), 1, "Error: The store did not answer: it took too long.\n"),
        (store_failure(TimeoutError()), 1, "Error: The store did not answer: it took too long.\n"),
        (
            store_failure(sqlite3.OperationalError("database is locked")),
            1,
            "Error: The store did not answer: database is locked.\n",
        ),
    ],
)
def test_a_known_failure_ends_without_a_traceback(
    failure: Exception, code: int, shown: str
) -> None:
    @click.group(cls=Group)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise failure

    done = CliRunner().invoke(group, ["fail"])
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", shown)


def test_a_defect_is_not_hidden() -> None:
    @click.command(cls=Command)
    def fail() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(fail).exception, ZeroDivisionError)


def test_the_context_prepares_the_process_before_a_command_and_not_before_help() -> None:
    done: list[str] = []

    @click.command(cls=Command)
    def command() -> None:
        done.append("command")

    CliRunner().invoke(command, ["--help"], obj=lambda: done.append("prepared"))
    assert done == []
    CliRunner().invoke(command, obj=lambda: done.append("prepared"))
    assert done == ["prepared", "command"]
