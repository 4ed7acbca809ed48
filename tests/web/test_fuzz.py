"""Random requests to a running gateway, over real connections.

Whatever a client sends: no 500 and no traceback, every answer as documented, no connection that is
left hanging, and nothing charged but the images that were delivered.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.server.gateway import Gateway
from gateway.upstream.sandbox import Sandbox
from tests.support.documented import Document
from tests.support.logs import logging_to
from tests.support.raw import RawAnswer, Wire, chunked, wire
from tests.support.rig import ADMIN_TOKEN, FLAT, Rig, rig_of, running_rig, settings_for
from tests.support.steps import until

SLOW_SECONDS = 0.2
"""How long the gateway waits for the rest of a head or a body here."""

LONGEST_SECONDS = 15.0
"""An answer, or the end of the connection, must come within this time."""

# -- the parts of a request -----------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.builds(lambda digit, count: digit * count, st.sampled_from("019"), st.integers(1, 8_000)),
    st.sampled_from(["", "nan", "inf", "1e999", "-0", "+1", "0x10", "1_0", "1.5", "1,2", "\xb2"]),
)
DATES = st.one_of(
    st.floats(-1e10, 2.5e11).map(lambda at: formatdate(at, usegmt=True)),
    st.sampled_from(["Sun, 99 Jun 2025 15:07:00 GMT", "9999-12-31", "0000-00-00T99:99:99Z"]),
    st.datetimes().map(lambda at: at.isoformat()),
)
LISTS = st.builds(
    lambda part, separator, count: separator.join([part] * count),
    st.sampled_from(["", "a", '"a"', '"', "a=1", "a;q=0.", "*", "bytes=0-", "W/", "text/plain"]),
    st.sampled_from([",", ";", ", ", "=", "&", "/"]),
    st.integers(1, 2_000),
)
ODD = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=40)
VALUES = st.one_of(NUMBERS, DATES, LISTS, ODD)

NAMES = (
    *("Accept", "Accept-Encoding", "Age", "Authorization", "Cache-Control", "Connection"),
    *("Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Date", "Expect", "Host"),
    *(
        "Idempotency-Key",
        "If-Match",
        "If-Modified-Since",
        "If-None-Match",
        "If-Range",
        "Origin",
    ),
    *("Prefer", "Range", "Sec-Fetch-Site", "TE", "Trailer", "Transfer-Encoding", "Upgrade"),
    *("X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id", "X-Gateway-Dashboard"),
    *("traceparent", "x-stainless-retry-count", "x-stainless-read-timeout"),
)
WORDS = st.sampled_from(
    [
        *("max-age=", "no-cache", "only-if-cached", "no-store", "chunked", "gzip", "identity"),
        *("100-continue", "close", "keep-alive", "upgrade", "websocket", "application/json"),
        *("application/openmetrics-text;version=", "text/plain;version=", "gateway_session="),
        *("Bearer ", "00-", "none", "same-origin", "application/json;charset="),
    ]
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(NAMES), st.one_of(VALUES, WORDS, st.tuples(WORDS, VALUES).map("".join))
    ),
    max_size=4,
)

TEAM_PATHS = ["/v1/images/generations", "/v1/models", "/v1/quota", "/api/v1/usage", "/v1/nothing"]
ADMIN_PATHS = [
    *("teams", "teams/other", "keys", "keys/other", "keys/other/rotate", "quota", "quota/team"),
    *("usage", "overview", "activity", "errors", "audit", "cache", "cache/lookup", "cache/top"),
    *("config", "alerts", "cache/purge"),
]
PAGES = ["/", "/metrics", "/healthz", "/readyz", "/openapi.json", "/docs"]
SESSION = "/admin/v1/session"
PARAMETERS = st.sampled_from(
    [
        *("by", "from", "to", "team", "limit", "before", "key", "id", "outcome", "errors"),
        *("format", "exclude", "name[]", "x", "%00", "%ff", ""),
    ]
)
ESCAPED = st.one_of(
    st.sampled_from(
        ["%", "%zz", "%00", "%ff", "%ed%a0%80", "+", "team", "day", "csv", "1970-01-01"]
    ),
    NUMBERS.filter(str.isascii),
    st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=20
    ),
    st.sampled_from([1, 50, 2_000]).map(lambda count: "[" * count),
)
QUERIES = st.lists(st.tuples(PARAMETERS, ESCAPED).map("=".join), max_size=3).map("&".join)

FIELDS = st.sampled_from(
    [
        *("prompt", "model", "size", "n", "quality", "user", "seed", "stream", "\0", "\u00e9"),
        *("team", "limits", "name", "expires", "grace", "token", "all", "fingerprint", "request"),
        *("max_n", "models", "sizes", "qualities", "cache", "images_per_day", "cost_per_day_usd"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["auto", "1024x1024", "16x" + "9" * 5_000, "90d", "9" * 4_000 + "d", "1e999"]),
    st.sampled_from([1, 1.0, 0, "gpt-image-2", "other", "\0", "\ud800", 10**4_200, -(10**4_200)]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(FIELDS, JSON, max_size=5).map(json.dumps)
GENERATIONS = st.dictionaries(
    st.sampled_from(["n", "size", "quality", "model", "user", "x"]),
    st.sampled_from([None, 1, 2, "auto", "1024x1024", "low", "gpt-image-2", "x"]),
    max_size=2,
).map(lambda fields: json.dumps({"prompt": "an apple", **fields}))
BODIES = st.one_of(
    GENERATIONS.map(str.encode),
    OBJECTS.map(str.encode),
    st.builds(
        lambda text, at, junk: text[:at].encode() + junk + text[at:].encode(),
        OBJECTS,
        st.integers(0, 60),
        st.binary(max_size=4),
    ),
    st.binary(max_size=200),
    st.sampled_from([b"[" * 100_000, b'{"a":' * 3_000, b"9" * 100_000, b" " * 300_000]),
)


class Sent(NamedTuple):
    """A request as bytes, in pieces, to one of the ports."""

    admin: bool
    method: str
    target: str
    pieces: tuple[bytes, ...]

    def __repr__(self) -> str:
        shown = [piece if len(piece) < 2_000 else piece[:2_000] + b"..." for piece in self.pieces]
        return f"Sent(admin={self.admin}, pieces={shown})"


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """A request: often valid up to one part, and sometimes incomplete."""
    admin = draw(st.booleans())
    paths = PAGES + [f"/admin/v1/{path}" for path in ADMIN_PATHS] if admin else TEAM_PATHS
    target, query = draw(st.sampled_from(paths)), draw(st.one_of(st.just(""), QUERIES))
    target = f"{target}?{query}" if query else target
    usual = "POST" if target.endswith("generations") else "GET"
    method = draw(
        st.sampled_from([usual] * 4 + ["POST", "PUT", "PATCH", "DELETE", "HEAD", "CONNECT"])
    )
    body = draw(BODIES if method not in ("GET", "HEAD") else st.just(b""))
    lines = {"Host": "h", "Content-Type": "application/json"}
    lines["Authorization"] = f"Bearer {ADMIN_TOKEN if admin else '{key}'}"
    framing = draw(st.sampled_from(["length"] * 5 + ["chunks", "short", "none"]))
    if framing == "chunks":
        lines["Transfer-Encoding"] = "chunked"
        body = chunked(body) if body else chunked()
    elif framing != "none" and body:
        lines["Content-Length"] = str(len(body) + (framing == "short" and not admin))
    pairs = [*lines.items(), *draw(HEADERS)]
    if admin:  # it delays answers to wrong tokens, and always waits 30 s for a body
        own = ("Authorization", "Content-Length", "Transfer-Encoding")
        pairs = [pair for pair in pairs if pair in lines.items() or pair[0] not in own]
    if draw(st.booleans()):  # a header of its own, instead of two of a name
        pairs = list({name.lower(): (name, value) for name, value in pairs}.values())
    head = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    whole = f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
    cut = draw(st.integers(1, len(whole) - len(body) - 1 if admin else len(whole)))
    pieces = draw(st.sampled_from([(whole,), (whole,), (whole[:cut], whole[cut:]), (whole[:cut],)]))
    return Sent(admin, method, target, pieces)


# -- the gateway ----------------------------------------------------------------------------------


class Fuzzed:
    """A gateway, its document, and what was sent to it and delivered so far."""

    def __init__(self, rig: Rig, key: str, document: Document, logs: io.StringIO) -> None:
        self._rig = rig
        self._key = key.encode()
        self._document = document
        self._logs = logs
        self._images = 0

    async def try_all(self, batch: list[Sent]) -> None:
        """Send requests at the same time, each on a connection of its own, and check the rest."""
        await asyncio.gather(*map(self._try, batch))
        await until(self._rig.is_closed)
        await self._rig.assert_books(self._images)
        for line in self._logs.getvalue().splitlines():
            entry = json.loads(line)
            assert entry["level"] != "error", line
            assert "failure" not in entry, line
        self._logs.seek(0)
        self._logs.truncate()

    async def _try(self, sent: Sent) -> None:
        url = self._rig.gateway.admin_url if sent.admin else self._rig.url
        async with wire(url) as connection:
            for piece in sent.pieces:
                await connection.send(piece.replace(b"{key}", self._key))
                await asyncio.sleep(0.001)
            await self._check_answers(sent, connection)

    async def _check_answers(self, sent: Sent, connection: Wire) -> None:
        """Check all answers on a connection. Only the first one has to come."""
        seconds, method, target = LONGEST_SECONDS, sent.method, sent.target
        try:
            while True:
                answer = await connection.answer(head_only=method == "HEAD", seconds=seconds)
                if answer.status != 100:
                    self._check(method, target, answer)
                    # What follows is a part that the parser took for a request of its own.
                    seconds, method, target = 0.02, "GET", "/"
        except asyncio.IncompleteReadError:
            return  # the gateway has closed the connection
        except TimeoutError:
            assert seconds < LONGEST_SECONDS, sent
        except ConnectionError:
            return

    def _check(self, method: str, target: str, answer: RawAnswer) -> None:
        assert answer.status != 500, (target, answer)
        if answer.status == 200 and target.partition("?")[0] == TEAM_PATHS[0]:
            bought = answer.headers["cache-status"].startswith("gateway; fwd")
            if bought and "collapsed" not in answer.headers["cache-status"]:
                self._images += len(json.loads(answer.body)["data"])
        closed = answer.headers.get("connection") == "close"
        if method == "HEAD":
            assert answer.body == b""
        elif closed and answer.status in (400, 431):
            self._document.check("GET", "/the parser's", answer)
        elif target.partition("?")[0] not in (*PAGES, SESSION):
            self._document.check(method, target, answer)


@pytest.fixture
async def fuzzed(tmp_path: Path) -> AsyncIterator[Fuzzed]:
    slow = str(SLOW_SECONDS)
    stream = io.StringIO()
    with logging_to(stream):
        async with running_rig(
            tmp_path, FLAT, None, SERVER_HEAD_SECONDS=slow, SERVER_BODY_SECONDS=slow
        ) as rig:
            document = Document((await rig.admin("/openapi.json")).json)
            yield Fuzzed(rig, await rig.key(), document, stream)


FRAMING = ("Date", "Age", "Content-Length", "Content-Encoding")

ODD_VALUES = (
    *("9" * 5_000, "0" * 5_000 + "1", "1e999", "-1", "nan", "", "\xff\x80", "a\tb", "sk-gw-x"),
    *("Sun, 99 Jun 2025 15:07:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "," * 4_000, '"' * 4_000),
    *("a;q=9," * 1_000, "bytes=0-" + "9" * 5_000, "max-age=" + "9" * 5_000, "a=" * 2_000),
    *(
        "text/plain;version=1.x",
        "application/openmetrics-text;version=" + "9" * 5_000,
        "*/*;q=\xff",
    ),
    *(
        "application/openmetrics-text;version=zzz",
        "application/openmetrics-text;version=1.0.0.\xff",
    ),
    *("gateway_session=" + "9" * 5_000, "gateway_session=e30.e30", 'gateway_session="\\400"'),
    *(
        "Bearer \xff",
        "chunked, chunked",
        "100-continue",
        "upgrade, close",
        "http://[::1",
        "//:99999",
    ),
)


async def test_any_value_in_any_header(fuzzed: Fuzzed) -> None:
    batch = []
    for name in NAMES:
        for value in ODD_VALUES:
            line = f"{name}: {value}\r\n".encode("latin-1")
            page = "/metrics" if name.startswith("Accept") else "/openapi.json"
            for admin, target in ((False, TEAM_PATHS[0]), (True, page)):
                method = "GET" if admin else "POST"
                token = b"" if admin else b"Authorization: Bearer {key}\r\n"
                head = f"{method} {target} HTTP/1.1\r\nHost: h\r\n".encode() + token + line
                batch.append(Sent(admin, method, target, (head + b"\r\n",)))
            head = f"POST {SESSION} HTTP/1.1\r\nHost: h\r\n".encode() + line
            body = b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            batch.append(Sent(True, "POST", SESSION, (head + body,)))
    for start in range(0, len(batch), 300):
        await fuzzed.try_all(batch[start : start + 300])


async def test_any_value_in_the_headers_of_the_upstream_and_of_a_trace(tmp_path: Path) -> None:
    head, stream = b"", io.StringIO()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 " + head + b"\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = settings_for(tmp_path, SimpleNamespace(url=url), FLAT, TRACING_ENABLED="true")
    gateway = Gateway(settings, exporter=InMemorySpanExporter())
    with logging_to(stream):
        async with server, rig_of(gateway, cast(Sandbox, None)) as rig:
            key = await rig.key()
            for status in ("429 Wait", "200 OK"):
                for name in ("Retry-After", "Retry-After-Ms", *FRAMING):
                    for value in ODD_VALUES:
                        head = f"{status}\r\n{name}: {value}".encode("latin-1")
                        sent = {"traceparent": value.encode("ascii", "replace").decode()}
                        got = await rig.generate(key, None, headers=sent)
                        assert got.status in (429, 502), (name, value)
                        assert 1 <= int(got.headers.get("Retry-After", "1")) <= 59
    assert '"failure"' not in stream.getvalue()


def profile(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@profile(15)
@given(batch=st.lists(requests(), min_size=1, max_size=20))
async def test_random_requests(fuzzed: Fuzzed, batch: list[Sent]) -> None:
    await fuzzed.try_all(batch)


@pytest.mark.exhaustive
@profile(60)
@given(batch=st.lists(requests(), min_size=10, max_size=40))
async def test_many_random_requests(fuzzed: Fuzzed, batch: list[Sent]) -> None:
    await fuzzed.try_all(batch)
