"""The command `gateway generate`: pictures through a running gateway, into files."""

import asyncio
import base64
import binascii
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import aiohttp
import click
import msgspec
from msgspec import Struct
from multidict import CIMultiDict, CIMultiDictProxy
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.cli.base import Command, config_option, note, read_settings
from gateway.config.settings import Settings
from gateway.config.values import addresses_of
from gateway.images.fetch import SECONDS as FETCH_SECONDS
from gateway.images.picture import kind_of
from gateway.server.startup import StartError, data_folder
from gateway.web.http_server import reachable

KEY_VARIABLE = "GATEWAY_KEY"

NO_CACHE = "no-cache"

SLACK_SECONDS = FETCH_SECONDS + 30.0
"""How much longer than the gateway's own time limit for the upstream the command waits: the gateway
may still fetch the picture."""

ACCEPTED, UNAVAILABLE = 202, 503

POLL_SECONDS = 1.0
"""Between two questions whether the answer is there."""

AGAIN = "The same command again gets it if the gateway has it."

NAME_CHARACTERS = 40
"""The longest name of a file that is made from a prompt."""

_SUFFIXES = (".png", ".jpg", ".webp")

_STATES = {
    "hit": "from the cache, not bought",
    "collapsed": "shared with an equal request, not bought",
}
"""What the answer's Cache-Status means where nothing was bought."""


class _Image(Struct, frozen=True):
    b64_json: str | None = None
    url: str | None = None


class _Answer(Struct, frozen=True):
    data: list[_Image]
    size: str | None = None


class _Pending(Struct, frozen=True):
    id: str


class _Error(Struct, frozen=True):
    message: str
    code: str | None = None


class _Refusal(Struct, frozen=True):
    error: _Error


@click.command(cls=Command)
@click.argument("prompt")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the picture, replaced if it exists; of several pictures, FILE-1 and so on. "
    "Without it, a new file in this folder, named after the prompt.",
)
@click.option("--n", metavar="N", type=int, help="Number of pictures.")
@click.option("--size", metavar="WxH", help="Size, such as 1536x1024, or auto.")
@click.option("--quality", metavar="WORD", help="Quality, such as low, medium or high.")
@click.option("--model", metavar="NAME", help="Model.")
@click.option("--fresh", is_flag=True, help="Buy a new picture even if the cache has one.")
@click.option(
    "--async",
    "later",
    is_flag=True,
    help="Let the gateway answer at once, and ask until the picture is there: for connections that "
    "break before.",
)
@click.option(
    "--url",
    metavar="URL",
    help="Base URL of the gateway, such as https://images.example.com/v1. Without it, the "
    "configured address on this machine.",
)
@click.option(
    "--key-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File with a team's key. Without it, the key in {KEY_VARIABLE}, or else the demo's.",
)
@config_option
def generate(
    prompt: str,
    output: Path | None,
    fresh: bool,
    later: bool,
    url: str | None,
    key_file: Path | None,
    config: Path | None,
    **options: Any,
) -> None:
    """Generate pictures through a running gateway.

    They are written into files. The command asks like any client, with a team's key: quotas and
    the cache apply, and pictures that have to be bought cost money. The key is no argument, because
    others on this machine see those.

    \b
    Examples:
      gateway generate "A simple red apple"
      gateway generate "A simple red apple" -o apple.png --size 1536x1024
      gateway generate "A simple red apple" --async
    """
    settings = read_settings(config)
    _require_writable(output)
    given = {name: value for name, value in options.items() if value is not None}
    asker = _Asker(
        _route(url, settings),
        _key(key_file, settings),
        settings.upstream.timeout_seconds + SLACK_SECONDS,
    )
    fields = {"prompt": prompt, **given, "response_format": "b64_json"}
    try:
        headers, answer = asyncio.run(asker.ask(fields, fresh=fresh, later=later))
    except KeyboardInterrupt:
        note(f"The gateway may go on and buy the picture. {asker.how_to_get_it}")
        raise
    try:
        _write_all(answer, output, prompt)
    finally:
        note(_summary(headers, asker.request_id))


# -- asking -------------------------------------------------------------------------------------


def _route(url: str | None, settings: Settings) -> str:
    """The URL to ask. Raises UsageError."""
    if url is None:
        server = settings.server
        (host, *_) = addresses_of(server.host)
        address = f"[{host}]" if ":" in host else host
        scheme = "https" if server.tls_cert else "http"
        url = reachable(f"{scheme}://{address}:{server.port}")
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:  # half of an IPv6 address
        is_usable = None
    if not is_usable:
        raise click.UsageError("--url must be a URL, such as https://images.example.com/v1.")
    base = url.rstrip("/")
    return f"{base if base.endswith('/v1') else f'{base}/v1'}/images/generations"


class _Key(Struct, frozen=True):
    """A team's key, and where it was found."""

    text: str
    place: str


def _key(file: Path | None, settings: Settings) -> _Key:
    """The team's key. Raises StartError."""
    if file is None and (key := os.environ.get(KEY_VARIABLE, "").strip()):
        return _Key(key, KEY_VARIABLE)
    place = file or data_folder(settings) / "demo.key"
    try:
        key = place.read_text().strip()
    except FileNotFoundError:
        others = f" Set {KEY_VARIABLE} or --key-file, or start 'gateway serve --demo'."
        raise StartError(f"There is no key in {place}.{'' if file else others}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The key's file {place} cannot be read: {error}.") from None
    if not re.fullmatch(r"[!-~]+", key):
        raise StartError(f"The file {place} does not hold a key.")
    return _Key(key, str(place))


class _Asker:
    """Asks a gateway at `url`, for at most `seconds`."""

    def __init__(self, url: str, key: _Key, seconds: float) -> None:
        self._url = url
        self._key = key
        self._seconds = seconds
        self._place = ""
        self.request_id = ""

    @property
    def how_to_get_it(self) -> str:
        """How to get the picture after an interrupt."""
        if not self._place:
            return AGAIN
        return f"For 24 hours, its answer is at {self._place}, with the same key as a bearer token."

    async def ask(
        self, fields: dict[str, Any], *, fresh: bool, later: bool
    ) -> tuple[CIMultiDictProxy[str], _Answer]:
        """Ask, and show the time that passes. Raises ClickException."""
        url, key = self._url, self._key
        headers = {"Authorization": f"Bearer {key.text}"}
        limit = aiohttp.ClientTimeout(total=self._seconds)
        try:
            with _progress() as progress:
                progress.add_task("Drawing", total=None)
                async with (
                    aiohttp.ClientSession(
                        timeout=limit, trust_env=True, headers=headers
                    ) as session,
                    asyncio.timeout(self._seconds),
                ):
                    return await self._answer(session, fields, fresh=fresh, later=later)
        except TimeoutError:
            seconds = f"{self._seconds:g} s"
            hint = f" {self.how_to_get_it}" if self._place else ""
            raise click.ClickException(f"{url} did not answer within {seconds}.{hint}") from None
        except msgspec.DecodeError:
            raise click.ClickException(
                f"{url} is no image gateway: its answer is no list of pictures."
            ) from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionResetError):
            raise click.ClickException(
                f"{url} cut the connection. The picture may have been bought. {AGAIN}"
            ) from None
        except (aiohttp.ClientError, ValueError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            hint = "Is it running? 'gateway serve --demo' starts one."
            raise click.ClickException(
                f"The gateway cannot be reached at {url} ({why}). {hint}"
            ) from None

    async def _answer(
        self, session: aiohttp.ClientSession, fields: dict[str, Any], *, fresh: bool, later: bool
    ) -> tuple[CIMultiDictProxy[str], _Answer]:
        headers = {"Cache-Control": NO_CACHE} if fresh else {}
        if later:
            headers["Prefer"] = "respond-async"
        asked = session.post(self._url, json=fields, headers=headers, allow_redirects=False)
        async with asked as response:
            status, found, body = response.status, response.headers, await response.read()
        while status == ACCEPTED:
            # Its path is the gateway's own. Before that, a proxy may have another one.
            id = msgspec.json.decode(body, type=_Pending).id
            self._place = f"{self._url}/{quote(id, safe='')}"
            self.request_id = self.request_id or found.get("X-Request-Id", "?")
            await asyncio.sleep(POLL_SECONDS)
            status, found, body = await self._poll(session, self._place, body)
        if status == 200:
            return found, msgspec.json.decode(body, type=_Answer)
        raise click.ClickException(_refusal(status, body, self._key))

    async def _poll(
        self, session: aiohttp.ClientSession, place: str, former: bytes
    ) -> tuple[int, CIMultiDictProxy[str], bytes]:
        """Ask for the answer. A gateway that cannot answer now is asked again."""
        with suppress(aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            async with session.get(place, allow_redirects=False) as response:
                body = await response.read()
                if not (response.status == UNAVAILABLE and "Retry-After" in response.headers):
                    return response.status, response.headers, body
        return ACCEPTED, CIMultiDictProxy(CIMultiDict()), former


def _progress() -> Progress:
    """The seconds that pass, at a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not Console(stderr=True).is_terminal,
    )


def _refusal(status: int, body: bytes, key: _Key) -> str:
    try:
        error = msgspec.json.decode(body, type=_Refusal).error
    except msgspec.DecodeError:
        return f"The answer has status {status} and is not the gateway's."
    text = _shown(error.message)
    if error.code == "invalid_api_key":
        text += f" The key came from {key.place}."
    if NO_CACHE in text:
        text += " The option --fresh sends that."
    return text


# -- the answer ---------------------------------------------------------------------------------


def _shown(text: str) -> str:
    """Return a text of the answer with escapes for characters that would control a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _bytes(image: _Image) -> bytes | None:
    try:
        return base64.b64decode(image.b64_json or "", validate=True) or None
    except binascii.Error:
        return None


def _require_writable(output: Path | None) -> None:
    """Look whether the file can be written before money is spent. Raises ClickException."""
    folder = Path() if output is None else output.parent
    is_there = output is not None and output.exists()
    place = output if output and is_there else folder
    if not (os.access(place, os.W_OK) and (is_there or folder.is_dir())):
        raise click.ClickException(f"Cannot write into {place}. Nothing was asked for.")


def _write_all(answer: _Answer, output: Path | None, prompt: str) -> None:
    """Write the pictures of an answer, and print their files. Raises ClickException."""
    pictures = [picture for image in answer.data if (picture := _bytes(image))]
    for file, picture in _written(output, prompt, pictures):
        click.echo(f"{file}  {_shown(answer.size or '')}  {len(picture):,} bytes")
        kind, suffix = kind_of(picture), file.suffix.lower().replace("jpeg", "jpg")
        if kind and suffix in _SUFFIXES and suffix != f".{kind}":
            note(f"{file} holds a {kind} picture, whatever its name says.")
    for image in answer.data:
        if _bytes(image) is None and image.url:
            click.echo(f"The gateway could not fetch this picture: {_shown(image.url)}")


def _written(
    output: Path | None, prompt: str, pictures: list[bytes]
) -> Iterator[tuple[Path, bytes]]:
    """Write the pictures, and give their files. Only one that was named is replaced."""
    if output is not None:
        many = len(pictures) > 1
        for number, picture in enumerate(pictures, 1):
            file = output.with_stem(f"{output.stem}-{number}") if many else output
            _write(file, picture, "wb")
            yield file, picture
        return
    words = re.findall(r"\w+", prompt.lower())
    name = "-".join(words)[:NAME_CHARACTERS].strip("-") or "picture"
    numbers = count(2)
    for picture in pictures:
        end = kind_of(picture) or "bin"
        file = Path(f"{name}.{end}")
        while not _write(file, picture, "xb"):
            file = Path(f"{name}-{next(numbers)}.{end}")
        yield file, picture


def _write(file: Path, picture: bytes, mode: Literal["wb", "xb"]) -> bool:
    """Write a file. Returns False if one must not exist, or a link, but does.

    Raises ClickException.
    """
    try:
        with file.open(mode) as opened:
            opened.write(picture)
    except FileExistsError:
        return False
    except OSError as error:
        raise click.ClickException(f"Cannot write {file}: {error.strerror}. {AGAIN}") from None
    return True


def _summary(headers: CIMultiDictProxy[str], asked: str) -> str:
    """What the answer cost, and where it came from.

    The answer to a later question does not say that, but the request `asked` has it.
    """
    if asked:
        return _shown(f"Request id: {asked}. 'gateway activity --id' shows what it cost.")
    words = headers.get("Cache-Status", "").replace(";", " ").split()
    state = next((text for word, text in _STATES.items() if word in words), "bought")
    cost, saved = (headers.get(f"x-gateway-{name}-usd", "?") for name in ("cost", "saved"))
    money = f"${cost}" if state == "bought" else f"${cost}, saved ${saved}"
    return _shown(f"{money}, {state}. Request id: {headers.get('X-Request-Id', '?')}")
