"""Messages to webhooks over HTTP: one attempt each, bounded in time and in what is read.

- Redirects are not followed: where a message goes is what the configuration says.
- Nothing is taken from the environment but what the configuration names, and no cookie is kept.
- aiohttp's errors stay here: they hold the URL, which is a secret.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, unquote_plus, urlsplit

import aiohttp
from yarl import URL

from gateway.config.webhooks import Webhook, check_secret, check_url
from gateway.core.connect_errors import why_unreachable
from gateway.core.redaction import redact
from gateway.core.tasks import Service
from gateway.reporting.alerts.message import headers
from gateway.reporting.alerts.ports import Receipt

SECONDS = 10.0
"""For a whole attempt."""

ANSWER_BYTES = 4_096
"""What is read of an answer."""

SHOWN_CHARS = 200
"""What is told of it."""

SECRET_CHARS = 6
"""A part of a URL that is shorter lets nobody in, and may be a word of the answer."""

_PASSING = (408, 425, 429)
"""Statuses below 500 that may be others the next time."""


class HttpWebhooks(Service):
    """Sends to whichever webhook a call names."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def send(self, webhook: Webhook, id: str, body: bytes, now: float) -> Receipt:
        """See `gateway.reporting.alerts.ports.Webhooks`."""
        try:
            url = await asyncio.to_thread(url_of, webhook)
            secret = await asyncio.to_thread(secret_of, webhook)
        except ValueError as error:
            return Receipt(told=f"nothing was sent: {error}", passing=True)
        try:
            async with asyncio.timeout(SECONDS):
                return await self._post(url, body, headers(id, body, now, secret))
        except TimeoutError:
            return Receipt(told=f"no answer within {SECONDS:.0f} s", passing=True)
        except aiohttp.ClientConnectorError as failure:
            cause, detail = why_unreachable(failure)
            return Receipt(told=f"cannot be reached ({cause}): {detail}", passing=True)
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            return Receipt(told=f"the call failed ({type(failure).__name__})", passing=True)

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, url: str, body: bytes, sent: dict[str, str]) -> Receipt:
        response = await self._open_session().post(
            URL(url, encoded=True), data=body, headers=sent, allow_redirects=False
        )
        try:
            answer = await _read(response.content)
        finally:
            response.close()
        status = response.status
        return Receipt(
            status=status,
            told=f"the receiver answered {status}{_shown(answer, url)}",
            passing=status in _PASSING or status >= 500,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The beginning of an answer."""
    answer = b""
    while len(answer) < ANSWER_BYTES and (more := await content.read(ANSWER_BYTES - len(answer))):
        answer += more
    return answer


def _shown(answer: bytes, url: str) -> str:
    """What may be told of an answer: one line, and nothing of what is secret in the URL."""
    given = urlsplit(url)
    hidden = "/".join((given.username or "", given.password or "", given.path, given.query))
    written = [part for part in re.split(r"[/&=;]", hidden) if len(part) >= SECRET_CHARS]
    read = [reading(part) for part in written for reading in (unquote, unquote_plus)]
    parts = [part.encode() for part in (*written, *read)]
    text = redact(answer, parts).decode("utf-8", "replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f": {line[:SHOWN_CHARS]}" if line else ""


def url_of(webhook: Webhook) -> str:
    """Where its messages go. Raises ValueError, whose text has nothing of it."""
    if webhook.url is not None:
        return webhook.url.reveal()
    if webhook.url_file is not None:
        return _checked_url(webhook.url_file)
    raise ValueError(f"the environment has no variable {webhook.url_env}")


def secret_of(webhook: Webhook) -> bytes | None:
    """What its messages are signed with, None where they are not.

    Raises ValueError, whose text has nothing of it.
    """
    if webhook.secret is not None:
        return check_secret(webhook.secret.reveal())
    if webhook.secret_file is not None:
        return _checked_secret(webhook.secret_file)
    if webhook.secret_env is not None:
        raise ValueError(f"the environment has no variable {webhook.secret_env}")
    return None


def file_faults(webhooks: Iterable[Webhook]) -> Iterator[tuple[str, str, str]]:
    """A webhook's name, the option and what is wrong, for each file without what it should hold."""
    for webhook in webhooks:
        for option, read in (("url_file", _checked_url), ("secret_file", _checked_secret)):
            file = getattr(webhook, option)
            if file is not None:
                try:
                    read(file)
                except ValueError as error:
                    yield webhook.name, option, str(error)


def _checked_url(file: str) -> str:
    text = _file_text(file)
    try:
        return check_url(text)
    except ValueError as error:
        raise ValueError(f"what the file {_shown_file(file)} holds {error}") from None


def _checked_secret(file: str) -> bytes:
    text = _file_text(file)
    try:
        return check_secret(text)
    except ValueError as error:
        raise ValueError(f"what the file {_shown_file(file)} holds {error}") from None


def _file_text(file: str) -> str:
    try:
        return Path(file).read_bytes().strip().decode("ascii", "replace")
    except OSError as error:
        raise ValueError(f"the file {_shown_file(file)} cannot be read: {error.strerror}") from None


def _shown_file(file: str) -> str:
    """The file's name as it may be told: somebody may have put the secret itself there."""
    return "given" if "://" in file or "whsec_" in file else redact(file.encode(), ()).decode()
