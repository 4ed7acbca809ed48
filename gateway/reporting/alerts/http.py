"""Sends messages to webhooks over HTTP: one attempt each, with limits on time and response size.

- Redirects are not followed: a message only goes to the configured URL.
- Only environment variables that the configuration names are read, and no cookies are stored.
- aiohttp's errors do not leave this file, because they contain the URL, which is a secret.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar
from urllib.parse import unquote, unquote_plus, urlsplit

import aiohttp
from msgspec import Struct
from yarl import URL

from gateway.config.files import read_secret, shown_file
from gateway.config.webhooks import Webhook, check_secret, check_url
from gateway.core.connect_errors import why_unreachable
from gateway.core.http_client import plain_session
from gateway.core.redaction import redact
from gateway.core.tasks import Service
from gateway.reporting.alerts.message import headers

T = TypeVar("T")

SECONDS = 10.0
"""The time limit of an attempt."""

ANSWER_BYTES = 4_096
"""How much of a response is read."""

SHOWN_CHARS = 200
"""How much of it is shown."""

SECRET_CHARS = 6
"""The shortest part of a URL that is redacted. A shorter one is no secret, and may be a word."""

_PASSING = (408, 425, 429)
"""Statuses below 500 after which a retry may succeed."""


class Receipt(Struct, frozen=True, kw_only=True):
    """The result of one attempt to send a message.

    `detail` describes it for people, without secrets. A `passing` failure may succeed later.
    """

    status: int | None = None
    detail: str
    passing: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the receiver accepted the message."""
        return self.status is not None and 200 <= self.status < 300


class HttpWebhooks(Service):
    """Sends messages. Each call names its webhook."""

    async def start(self) -> None:
        """Make the session of all calls."""
        self._session = plain_session(aiohttp.TCPConnector(force_close=True))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def send(self, webhook: Webhook, id: str, body: bytes, now: float) -> Receipt:
        """Try once to send a message, and return the result. A failure raises nothing."""
        try:
            url = await asyncio.to_thread(url_of, webhook)
            secret = await asyncio.to_thread(secret_of, webhook)
        except ValueError as error:
            return Receipt(detail=f"nothing was sent: {error}", passing=True)
        try:
            async with asyncio.timeout(SECONDS):
                return await self._post(url, body, headers(id, body, now, secret))
        except TimeoutError:
            return Receipt(detail=f"no answer within {SECONDS:.0f} s", passing=True)
        except aiohttp.ClientConnectorError as failure:
            cause, detail = why_unreachable(failure)
            return Receipt(detail=f"cannot be reached ({cause}): {detail}", passing=True)
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            return Receipt(detail=f"the call failed ({type(failure).__name__})", passing=True)

    async def _post(self, url: str, body: bytes, sent: dict[str, str]) -> Receipt:
        response = await self._session.post(
            URL(url, encoded=True), data=body, headers=sent, allow_redirects=False
        )
        try:
            answer = await _read(response.content)
        finally:
            response.close()
        status = response.status
        return Receipt(
            status=status,
            detail=f"the receiver answered {status}{_shown(answer, url)}",
            passing=status in _PASSING or status >= 500,
        )


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Return the start of a response."""
    answer = b""
    while len(answer) < ANSWER_BYTES and (more := await content.read(ANSWER_BYTES - len(answer))):
        answer += more
    return answer


def _shown(answer: bytes, url: str) -> str:
    """Return the response as one line, without the secrets of the URL."""
    given = urlsplit(url)
    hidden = "/".join((given.username or "", given.password or "", given.path, given.query))
    written = [part for part in re.split(r"[/&=;]", hidden) if len(part) >= SECRET_CHARS]
    read = [reading(part) for part in written for reading in (unquote, unquote_plus)]
    parts = [part.encode() for part in (*written, *read)]
    text = redact(answer, parts).decode("utf-8", "replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f": {line[:SHOWN_CHARS]}" if line else ""


def url_of(webhook: Webhook) -> str:
    """Return the URL of a webhook. Raises ValueError; its text has no part of the URL."""
    if webhook.url is not None:
        return webhook.url.reveal()
    if webhook.url_file is not None:
        return _read_file(webhook.url_file, check_url)
    raise ValueError(f"the environment has no variable {webhook.url_env}")


def secret_of(webhook: Webhook) -> bytes | None:
    """Return the secret that signs the messages, or None if they are not signed.

    Raises ValueError; its text has no part of the secret.
    """
    if webhook.secret is not None:
        return check_secret(webhook.secret.reveal())
    if webhook.secret_file is not None:
        return _read_file(webhook.secret_file, check_secret)
    if webhook.secret_env is not None:
        raise ValueError(f"the environment has no variable {webhook.secret_env}")
    return None


def file_faults(webhooks: Iterable[Webhook]) -> Iterator[tuple[str, str, str]]:
    """Yield webhook, option and fault for each file without a valid URL or secret."""
    for webhook in webhooks:
        files = (
            ("url_file", webhook.url_file, check_url),
            ("secret_file", webhook.secret_file, check_secret),
        )
        for option, file, check in files:
            try:
                if file is not None:
                    _read_file(file, check)
            except ValueError as error:
                yield webhook.name, option, str(error)


def _read_file(file: str, check: Callable[[str], T]) -> T:
    """Return the checked content of a file. Raises ValueError."""
    text = read_secret(file).decode("ascii", "replace")
    try:
        return check(text)
    except ValueError as error:
        raise ValueError(f"the content of the file {shown_file(file)} {error}") from None
