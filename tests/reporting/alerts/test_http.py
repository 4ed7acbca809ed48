"""One attempt to send a message: the request, its receipt, and no secrets in either."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.webhooks import Webhook
from gateway.core.secret import Secret
from gateway.reporting.alerts.http import (
    ANSWER_BYTES,
    SHOWN_CHARS,
    HttpWebhooks,
    Receipt,
    file_faults,
)
from tests.support.receiver import PATH, SECRET, Receiver, running_receiver

BODY = b'{"text":"hello"}'
NOW = 1_772_366_400.5


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


async def send(url: str) -> Receipt:
    return await send_to(Webhook(name="ops", url=Secret(url), secret=Secret(SECRET)))


async def send_to(webhook: Webhook) -> Receipt:
    async with HttpWebhooks() as webhooks:
        return await webhooks.send(webhook, "msg_1", BODY, NOW)


async def test_a_missing_variable_is_named() -> None:
    receipt = await send_to(Webhook(name="ops", url_env="OPS_URL"))
    assert receipt.detail == "nothing was sent: the environment has no variable OPS_URL"


async def test_a_compressed_response_is_not_decompressed(receiver: Receiver) -> None:
    receiver.answer = gzip.compress(bytes(5_000_000))
    receiver.headers = {"Content-Encoding": "gzip"}
    assert (await send_to(Webhook(name="ops", url=Secret(receiver.url)))).delivered
    assert "webhook-signature" not in receiver.messages[0].headers  # it has no secret


async def test_a_message_is_sent_signed(receiver: Receiver) -> None:
    receipt = await send(receiver.url)
    (message,) = receiver.messages
    assert (message.path, message.body, message.id) == (PATH, BODY, "msg_1")
    assert message.headers["webhook-timestamp"] == "1772366400"
    assert message.is_signed
    assert (receipt.delivered, receipt.status) == (True, 200)
    assert receipt.detail == "the receiver answered 200: ok"


@pytest.mark.parametrize(
    ("status", "delivered", "passing"),
    [
        *((200, True, False), (204, True, False)),
        *((302, False, False), (307, False, False)),
        *((400, False, False), (404, False, False), (410, False, False)),
        *((408, False, True), (429, False, True), (500, False, True), (503, False, True)),
    ],
)
async def test_the_status_of_a_response_decides(
    receiver: Receiver, status: int, delivered: bool, passing: bool
) -> None:
    receiver.status, receiver.headers = status, {"Location": receiver.origin + "/elsewhere"}
    receipt = await send(receiver.url)
    assert (receipt.delivered, receipt.passing, receipt.status) == (delivered, passing, status)
    assert len(receiver.messages) == 1  # a redirect is not followed


async def test_only_the_start_of_a_response_is_read_and_less_is_shown(receiver: Receiver) -> None:
    receiver.status, receiver.answer = 400, "<b>no\n\x1b[31m  such\x00" + "x" * 5_000_000
    receipt = await send(receiver.url)
    assert receipt.detail.startswith("the receiver answered 400: <b>no [31m such xxx")
    assert len(receipt.detail) <= SHOWN_CHARS + 30 < ANSWER_BYTES


async def test_a_response_that_repeats_the_url_is_shown_without_it(receiver: Receiver) -> None:
    receiver.status, receiver.answer = 404, f"no_service {receiver.url} but {PATH[10:20].lower()}"
    receipt = await send(receiver.url)
    assert receipt.detail.startswith("the receiver answered 404: no_service http://127.0.0.1")
    assert "hidden" not in receipt.detail
    assert "secret" not in receipt.detail.lower()
    url = receiver.url.rpartition("/")[0] + "/tok%20en%2Bcanary"
    for receiver.answer in ("no hook tok en+canary", "no hook tok%20en%2Bcanary"):
        assert "canary" not in (await send(url)).detail


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("http://127.0.0.1:1/hidden", "cannot be reached (refused)"),
        ("http://hidden.invalid/hidden", "cannot be reached (dns)"),
        ("http://" + "a" * 70 + ".example/hidden", ""),
    ],
)
async def test_a_receiver_that_cannot_be_reached(url: str, detail: str) -> None:
    receipt = await send(url)
    assert (receipt.delivered, receipt.passing, receipt.status) == (False, True, None)
    assert receipt.detail.startswith(detail)
    assert "hidden" not in receipt.detail


async def test_a_receiver_that_does_not_speak_http() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-hidden\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        receipt = await send(f"http://127.0.0.1:{port}/hidden")
        assert receipt.passing
        assert "hidden" not in receipt.detail
        receipt = await send(f"https://127.0.0.1:{port}/hidden")
        assert receipt.detail.startswith("cannot be reached (tls)")


async def test_a_receiver_that_does_not_answer_times_out(receiver: Receiver) -> None:
    receiver.seconds = 3_600
    receipt = await send(receiver.url)
    assert (receipt.detail, receipt.passing) == ("no answer within 10 s", True)


async def test_a_file_is_read_for_each_message(receiver: Receiver, tmp_path: Path) -> None:
    url, secret = tmp_path / "url", tmp_path / "secret"
    webhook = Webhook(name="ops", url_file=str(url), secret_file=str(secret))
    async with HttpWebhooks() as webhooks:
        receipt = await webhooks.send(webhook, "msg_1", BODY, NOW)
        assert (
            receipt.detail
            == f"nothing was sent: the file {url} cannot be read: No such file or directory"
        )
        url.write_text(receiver.url + "\n")
        secret.write_text("hidden")
        receipt = await webhooks.send(webhook, "msg_1", BODY, NOW)
        assert receipt.detail.startswith(
            f"nothing was sent: the content of the file {secret} is not"
        )
        assert not receiver.messages
        secret.write_text(SECRET + "\n")
        assert (await webhooks.send(webhook, "msg_1", BODY, NOW)).delivered
        url.write_text(receiver.origin + "/other")
        assert (await webhooks.send(webhook, "msg_1", BODY, NOW)).delivered
    assert [message.path for message in receiver.messages] == [PATH, "/other"]
    assert all(message.is_signed for message in receiver.messages)


def test_every_invalid_file_is_reported(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"hidden \xff")
    quoted = tmp_path / "quoted"
    quoted.write_text(f'"{SECRET}"\n')
    webhooks = [
        Webhook(name="a", url_file=str(wrong), secret_file=str(wrong)),
        Webhook(name="b", url_file=str(tmp_path)),
        Webhook(name="c", url_file="https://hooks.example.com/hidden"),
        Webhook(name="d", url_env="ANY"),
        Webhook(name="e", secret_file=str(quoted)),
    ]
    assert list(file_faults(webhooks)) == [
        ("a", "url_file", f"the content of the file {wrong} is not an http or https URL"),
        (
            *("a", "secret_file"),
            f"the content of the file {wrong} is not whsec_ and the base64 of 24 to 64 bytes",
        ),
        ("b", "url_file", f"the file {tmp_path} cannot be read: Is a directory"),
        ("c", "url_file", "the file given cannot be read: No such file or directory"),
        (
            *("e", "secret_file"),
            f"the content of the file {quoted} has quotes around it: remove them",
        ),
    ]
