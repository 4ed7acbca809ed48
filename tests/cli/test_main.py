"""The command line, as click runs it and as a program of its own."""

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager

import click
import pytest

from gateway import __version__
from gateway.cli import loading_modules
from gateway.cli.main import COMMANDS, gateway
from gateway.core.key_format import parse
from tests.support.line import Line

# -- help ---------------------------------------------------------------------------------------


def test_version_and_help(line: Line) -> None:
    assert line.click("--version").stdout == f"gateway {__version__}\n"
    for arguments in ([], ["keys"], ["teams"]):
        shown = line.click(*arguments, "--help")
        assert shown.exit_code == 0
        assert "..." not in shown.stdout.partition("Commands:")[2]
    context = click.Context(gateway)
    for name, (_, help) in COMMANDS.items():
        command = gateway.get_command(context, name)
        assert command is not None
        assert (command.name, command.get_short_help_str(100)) == (name, help)


def test_help_needs_none_of_the_heavy_modules(line: Line) -> None:
    listed = "import sys, gateway.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", listed], env=line.environ, capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert not modules & {"aiohttp", "asyncio", "msgspec", "rich", "sqlite3", "structlog"}


# -- teams --------------------------------------------------------------------------------------


def test_teams_are_applied_and_listed(line: Line) -> None:
    first = line.click("teams", "apply", "teams.toml")
    assert (first.exit_code, first.stdout) == (0, "")
    assert first.stderr == "created: design, research\n"
    (line.folder / "teams.toml").write_text("[teams.design]\nmax_n = 5")
    second = line.click("teams", "apply", "teams.toml")
    assert second.stderr == "replaced: design\nnot in teams.toml, left alone: research\n"
    third = line.click("teams", "apply", "teams.toml")
    assert third.stderr.startswith("unchanged: design\n")
    listed = json.loads(line.click("teams", "list", "--format", "json").stdout)
    assert [(team["team"], team["max_n"]) for team in listed] == [("design", 5), ("research", None)]


def test_a_faulty_file_of_teams_changes_nothing(filled: Line) -> None:
    (filled.folder / "teams.toml").write_text("[teams.new]\n[teams.design]\nmax = 5\ncach = 1")
    done = filled.click("teams", "apply", "teams.toml")
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "teams.toml: [teams.design] max: no such option; did you mean 'max_n'?",
        "teams.toml: [teams.design] cach: no such option; did you mean 'cache'?",
    ]
    assert "new" not in filled.click("teams", "list").stdout


def test_teams_may_name_the_models_of_the_configuration(line: Line) -> None:
    (line.folder / "my.toml").write_text("[models.other]\nprices = 0.04")
    (line.folder / "teams.toml").write_text('[teams.design]\nmodels = ["other"]')
    assert line.click("teams", "apply", "teams.toml").exit_code == 2
    done = line.click("teams", "apply", "teams.toml", "--config", "my.toml")
    assert (done.exit_code, done.stderr) == (0, "created: design\n")


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (("teams", "list"), "gateway teams apply FILE"),
        (("keys", "list"), "gateway keys create --team NAME"),
        (("usage", "--by", "day"), "There are no requests since "),
        (("activity",), "There are no such requests in the history."),
        (("audit",), "There are no changes in this period."),
    ],
)
def test_an_empty_list_is_a_hint(line: Line, command: tuple[str, ...], hint: str) -> None:
    (line.folder / "empty.toml").write_text("")
    assert line.click("teams", "apply", "empty.toml").exit_code == 0
    done = line.click(*command)
    assert (done.exit_code, done.stdout) == (0, "")
    assert hint in done.stderr
    assert line.click(*command, "--format", "json").stdout == "[]\n"


def test_a_command_in_the_wrong_folder_makes_no_store(line: Line) -> None:
    for command in (("teams", "list"), ("keys", "list"), ("usage",), ("keys", "revoke", "x")):
        done = line.click(*command)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "There is no database data/my.db. 'gateway teams apply'" in done.stderr
    assert not (line.folder / "data").exists()


def test_after_a_sandbox_ran_the_error_has_the_line_that_uses_its_store(line: Line) -> None:
    line.environ["GATEWAY_STORE_URL"] = "sqlite:data/gateway.db"
    (line.folder / "data").mkdir()
    (line.folder / "data" / "sandbox.db").touch()
    # Where `gateway` is not on the path, as in a clone, the line names the program as it was typed.
    (line.folder / "bin").mkdir()
    (line.folder / "bin" / "gateway").write_text("from gateway.__main__ import main; main()")
    done = line.run("usage", "--by", "day", program=[sys.executable, "bin/gateway"])
    assert (done.returncode, done.stdout) == (1, "")
    use_it = "run `GATEWAY_STORE_URL=sqlite:data/sandbox.db "
    assert f"{use_it}bin/gateway usage --by day`" in done.stderr
    done = line.run("teams", "apply", "teams.toml")
    assert done.returncode == 0
    assert f"{use_it}gateway teams apply teams.toml`" in done.stderr.splitlines()[0]


# -- failures -----------------------------------------------------------------------------------


def test_a_store_that_does_not_answer_is_one_line(filled: Line) -> None:
    with closing(sqlite3.connect(filled.folder / "data" / "my.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        done = filled.click("keys", "create", "--team", "design")
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: .+\n", done.stderr)


def test_a_store_that_cannot_be_used_is_one_line(line: Line) -> None:
    (line.folder / "text").write_text("This is no database." * 100)
    done = line.click("usage", GATEWAY_STORE_URL="sqlite:text")
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: .*text.*\n", done.stderr)


def test_a_wrong_pepper_is_one_line(filled: Line) -> None:
    done = filled.click("keys", "list", GATEWAY_KEYS_PEPPER="another pepper of 30 characters")
    assert done.exit_code == 1
    assert re.fullmatch(r"Error: [Tt]he pepper .*\n", done.stderr)
    assert "another pepper" not in done.stderr


# -- terminals ----------------------------------------------------------------------------------


def test_a_terminal_gets_a_table_with_whole_ids(filled: Line) -> None:
    id = f"sk-gw-{parse(filled.key())}"
    screen = filled.show("keys", "list", stream="stdout")
    assert id in screen
    assert "─" in screen


def test_characters_outside_the_encoding_are_escaped(filled: Line) -> None:
    filled.click("keys", "create", "--team", "design", "--name", "研")
    done = filled.run("keys", "list", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u7814" in done.stdout


# -- what runs ----------------------------------------------------------------------------------


@contextmanager
def running(line: Line, last: str, *arguments: str, **environ: str) -> Iterator[str]:
    """A program that runs until the block ends: what it printed up to the line `last`.

    It ends by SIGTERM, with exit code 0.
    """
    program = line.start(*arguments, **environ)
    try:
        assert program.stdout is not None
        printed = ""
        for text in program.stdout:
            printed += text
            if text.startswith(last):
                break
        else:
            pytest.fail(f"ended early: {program.communicate()[1]}")
        yield printed
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=10)
        assert program.returncode == 0
    finally:
        program.kill()
        program.communicate()


def status(url: str, key: str, body: object = None) -> int:
    """The status of a GET or, with a body, a POST."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_keys_are_made_and_revoked_while_a_gateway_serves(line: Line) -> None:
    line.environ["GATEWAY_STORE_URL"] = "sqlite:data/sandbox.db"
    ports = ("--host", "127.0.0.1", "--port", "0", "--admin-port", "0")
    taken = {"GATEWAY_SERVER_PORT": "1", "GATEWAY_SERVER_ADMIN_PORT": "1"}
    with running(line, "Ctrl-C", "serve", "--demo", *ports, **taken) as printed:
        (url,) = re.findall(r"Base URL +(\S+)", printed)
        (demo_key,) = re.findall(r"Key +(\S+)", printed)
        assert status(f"{url}/models", demo_key) == 200
        line.click("teams", "apply", "teams.toml")
        key = line.key()
        assert status(f"{url}/images/generations", key, {"prompt": "A red apple"}) == 200
        line.click("keys", "revoke", key)
        deadline = time.monotonic() + 20
        while status(f"{url}/models", key) != 401:
            assert time.monotonic() < deadline
        used = json.loads(line.click("usage", "--format", "json").stdout)
        bought = [(row["team"], row["images_bought"]) for row in used]
        assert bought == [("demo", 1), ("design", 1)]  # the demo shows a picture


def test_the_form_of_answers_is_that_of_a_sandbox(line: Line) -> None:
    done = line.click("serve", "--answer", "url")
    assert done.exit_code == 2
    assert "--answer needs --sandbox or --demo." in done.stderr


@pytest.fixture
def hangup() -> Iterator[None]:
    """Restores the action of SIGHUP, which `serve` ignores until it handles it."""
    former = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, former)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize(
    ("options", "environ", "places"),
    [
        (
            (),
            {"GATEWAY_SERVER_PORT": "none"},
            [
                "environment GATEWAY_SERVER_PORT",
                "environment GATEWAY_UPSTREAM_BASE_URL",
                "environment GATEWAY_UPSTREAM_API_KEY_FILE",
            ],
        ),
        (
            ("--demo", "--host", "a b", "--port", "none", "--admin-port", "-1"),
            {},
            ["command line --host", "command line --port", "command line --admin-port"],
        ),
        (
            ("--demo",),
            {"GATEWAY_UPSTREAM_API_KEY": "sk-upstream-0123456789"},
            ["environment GATEWAY_UPSTREAM_BASE_URL"],
        ),
    ],
    ids=["no upstream", "options", "no address"],
)
def test_serve_lists_all_faults(
    line: Line, options: tuple[str, ...], environ: dict[str, str], places: list[str]
) -> None:
    done = line.click("serve", *options, **environ)
    assert (done.exit_code, done.stdout) == (2, "")
    assert [fault.split(": ")[0] for fault in done.stderr.splitlines()] == places
    assert "0123456789" not in done.stderr


def test_a_sandbox_runs_by_itself(line: Line) -> None:
    key = "sandbox-key-0123456789"
    environ = {"GATEWAY_SANDBOX_API_KEY": key}
    with running(line, "Ctrl-C", "sandbox", "--port", "0", **environ) as printed:
        (url,) = re.findall(r"listening on (\S+)\.", printed)
        assert key not in printed
        generations = f"{url}/api/v1/images/generations"
        assert status(generations, key, {"prompt": "A red apple"}) == 200
        assert status(generations, "other", {"prompt": "A red apple"}) == 401
        taken = line.run("sandbox", "--port", url.rpartition(":")[2])
    assert taken.returncode == 1
    assert re.fullmatch(r"Error: Port \d+ on 127\.0\.0\.1 is in use: .+\n", taken.stderr)


def test_a_taken_port_is_one_line(line: Line) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        done = line.run(
            *("serve", "--sandbox", "--port", port, "--admin-port", "0"), GATEWAY_LOG_LEVEL="error"
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"Error: Port {port} on 127\.0\.0\.1 is in use: .+\n", done.stderr)


# -- Ctrl-C while modules are loaded ------------------------------------------------------------

INTERRUPTED_AT = """
import signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["gateway", "serve", "--demo"]
signal.signal(signal.SIGINT, signal.default_int_handler)
from gateway.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "module", ["gateway.cli.main", "gateway.config.files", "gateway.server.run"]
)
def test_ctrl_c_is_not_lost_while_modules_are_loaded(module: str) -> None:
    """Not even where Python would only print it: it is no exception then."""
    code = INTERRUPTED_AT.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=30)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with loading_modules():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)
