"""`gateway alerts test`, and what `check-config` finds in webhooks."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import Result

from tests.support.line import Line
from tests.support.receiver import PATH, SECRET, Receiver, running_receiver

TOML = """
[alerts.webhooks.ops]
url_env = "OPS_URL"
secret_env = "OPS_SECRET"
[alerts.webhooks.chat]
kind = "slack"
url_file = "chat.url"
"""


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


class Configured(Line):
    """A command line with webhooks. A command has an event loop of its own, and so a thread."""

    async def alerts(self, *arguments: str, **environ: str) -> Result:
        return await asyncio.to_thread(self.click, "alerts", "test", *arguments, **environ)


@pytest.fixture
async def line(tmp_path: Path, receiver: Receiver) -> Configured:
    line = Configured(tmp_path)
    (tmp_path / "gateway.toml").write_text(TOML)
    (tmp_path / "chat.url").write_text(receiver.url + "/chat\n")
    line.environ |= {"OPS_URL": receiver.url, "OPS_SECRET": SECRET}
    return line


CONFIG = ("--config", "gateway.toml")


async def test_a_test_message_is_sent_to_each(line: Configured, receiver: Receiver) -> None:
    done = await line.alerts(*CONFIG)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"ops (json, {receiver.origin}/***): sent, the receiver answered 200: ok",
        "chat (slack, ***): sent, the receiver answered 200: ok",
    ]
    by_path = {message.path: message for message in receiver.messages}
    ops, chat = by_path[PATH], by_path[PATH + "/chat"]
    assert (ops.json["event"], ops.json["team"], ops.is_signed) == ("test", None, True)
    assert ops.json["id"] == ops.id != chat.id
    assert chat.json.keys() == {"text"}
    assert "This is a test" in chat.json["text"]
    assert re.search("webhook chat ", chat.json["text"])


async def test_one_webhook_can_be_chosen_and_its_failure_is_shown(
    line: Configured, receiver: Receiver
) -> None:
    receiver.status, receiver.answer = 403, "invalid_token"
    done = await line.alerts("--webhook", "ops", *CONFIG)
    assert done.exit_code == 1
    assert done.stdout == (
        f"ops (json, {receiver.origin}/***): NOT SENT, the receiver answered 403: invalid_token\n"
    )
    assert len(receiver.messages) == 1


async def test_a_webhook_without_a_url(line: Configured) -> None:
    (line.folder / "chat.url").unlink()
    done = await line.alerts(*CONFIG, OPS_URL="")
    assert done.exit_code == 1
    assert (
        "ops (json, ***): NOT SENT, nothing was sent: the environment has no variable OPS_URL"
        in (done.stdout)
    )
    assert "chat.url cannot be read: No such file or directory" in done.stdout


async def test_unknown_names_and_no_webhooks(line: Configured) -> None:
    done = await line.alerts("--webhook", "op", *CONFIG)
    assert (done.exit_code, "The configuration has: ops, chat." in done.stderr) == (2, True)
    done = await line.alerts()
    assert (done.exit_code, "No webhook is configured" in done.stderr) == (1, True)


def test_check_config_lists_faults_of_webhooks(line: Configured) -> None:
    (line.folder / "chat.url").write_text("hidden")
    (line.folder / "gateway.toml").write_text(TOML)
    done = line.click("check-config", *CONFIG, OPS_URL="")
    assert done.exit_code == 2
    assert (
        "gateway.toml: [alerts.webhooks.chat] url_file: the content of the file chat.url is no"
        in (done.stderr)
    )
    assert (
        "warning: gateway.toml: [alerts.webhooks.ops] url_env: the environment does not have"
        in (done.stderr)
    )
    (line.folder / "gateway.toml").write_text(TOML + "at_percent = [0]\n[cache]\nttl_seconds = -1")
    done = line.click("check-config", *CONFIG, OPS_URL="hidden")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 3
    assert "hidden" not in done.stderr
    (line.folder / "gateway.toml").write_text(TOML)
    (line.folder / "chat.url").write_text("https://hooks.example.com/x")
    assert line.click("check-config", *CONFIG).exit_code == 0


def test_other_commands_need_no_variable(line: Configured) -> None:
    done = line.click("teams", "apply", "teams.toml", *CONFIG, OPS_URL="", OPS_SECRET="")
    assert done.exit_code == 0, done.output
