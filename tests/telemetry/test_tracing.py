"""Spans of a request: names, parents, attributes and trace context, and no secret in them."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from threading import Event, Thread

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from gateway.core.model import Limits
from gateway.server.gateway import Gateway
from gateway.telemetry.otel import OpenTelemetryTracing
from gateway.upstream.sandbox import Sandbox, SandboxSettings, UpstreamFault
from tests.support.environment import CLEAN
from tests.support.process import program
from tests.support.receiver import Receiver, running_receiver
from tests.support.rig import UPSTREAM_KEY, Rig, rig_of, settings_for
from tests.support.tools import ROOT

ON = "[tracing]\nenabled = true\n"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
PROMPT = "a canary in a coal mine"
ROUTE = "/v1/images/generations"
REQUEST, CALL = f"POST {ROUTE}", "image_generation gpt-image-2"

Traced = Callable[..., AbstractAsyncContextManager[Rig]]


class Spans(InMemorySpanExporter):
    """Keeps the spans, which have all arrived when their gateway has stopped."""

    @property
    def by_name(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.get_finished_spans()}

    def request(self, id: str) -> ReadableSpan:
        """The span of the request with this id."""
        spans = self.get_finished_spans()
        (span,) = [span for span in spans if attributes(span).get("gateway.request_id") == id]
        return span


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def traced(tmp_path: Path, spans: Spans) -> Traced:
    """Starts a gateway whose spans are kept."""

    @asynccontextmanager
    async def start(toml: str, **environ: str) -> AsyncIterator[Rig]:
        async with Sandbox(SandboxSettings(api_key=UPSTREAM_KEY, picture="dot")) as sandbox:
            settings = settings_for(tmp_path, sandbox, toml, **environ)
            async with rig_of(Gateway(settings, exporter=spans), sandbox) as rig:
                yield rig

    return start


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


async def test_a_purchase_is_a_request_two_store_operations_and_a_call(
    traced: Traced, spans: Spans
) -> None:
    async with traced(ON) as rig:
        key = await rig.key("red")
        headers = {"traceparent": PARENT, "X-Request-Id": "r-1"}
        got = await rig.generate(key, PROMPT, headers=headers, n=2)
        await rig.generate(key, PROMPT, headers={"X-Request-Id": "hit"}, n=2)
    finished = spans.get_finished_spans()
    named = {span.name: span for span in finished if f"{span.context.trace_id:032x}" == TRACE}
    assert named.keys() == {REQUEST, CALL, "store reserve", "store settle"}
    request = named.pop(REQUEST)
    assert request.kind is SpanKind.SERVER
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert all(span.parent == request.context for span in named.values())
    about = attributes(request)
    assert about == {
        "http.request.method": "POST",
        "http.route": ROUTE,
        "http.response.status_code": 200,
        "gateway.request_id": "r-1",
        "gateway.team": "red",
        "gateway.key": key.removeprefix("sk-gw-").partition("_")[0],
        "gateway.outcome": "miss",
        "gateway.images": 2,
        "gateway.cost_usd": about["gateway.cost_usd"],
    }
    call = named[CALL]
    assert call.kind is SpanKind.CLIENT
    assert attributes(call) == {
        "gen_ai.operation.name": "image_generation",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-image-2",
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "image",
        "gen_ai.usage.input_tokens": got.json["usage"]["input_tokens"],
        "gen_ai.usage.output_tokens": got.json["usage"]["output_tokens"],
        "server.address": "127.0.0.1",
        "server.port": attributes(call)["server.port"],
    }
    assert attributes(named["store reserve"])["db.system.name"] == "sqlite"
    hit = spans.request("hit")
    assert attributes(hit)["gateway.outcome"] == "hit"
    assert set(finished) - set(named.values()) == {request, hit}


LONG_STATE = ",".join(f"vendor{number}={'x' * 40}" for number in range(20))


@pytest.mark.parametrize(
    ("toml", "state", "sent_state"),
    [(ON, "vendor=1", "vendor=1"), (ON, LONG_STATE, None), ("", "vendor=1", None)],
    ids=["on", "long state", "off"],
)
async def test_the_upstream_gets_the_trace_context_of_the_call(
    traced: Traced, spans: Spans, receiver: Receiver, toml: str, state: str, sent_state: str | None
) -> None:
    receiver.answer = '{"created":1,"data":[{"b64_json":"aGk="}]}'
    async with traced(toml, UPSTREAM_BASE_URL=receiver.origin) as rig:
        context = {"traceparent": PARENT, "tracestate": state}
        assert (await rig.generate(await rig.key(), PROMPT, headers=context)).status == 200
    sent = receiver.messages[0].headers
    parent = None
    if toml:
        parent = f"00-{TRACE}-{spans.by_name[CALL].context.span_id:016x}-01"
    assert (sent.get("traceparent"), sent.get("tracestate")) == (parent, sent_state)
    assert bool(spans.by_name) is bool(toml)


async def test_a_failure_is_recorded_by_its_code_and_a_refusal_is_no_failure(
    traced: Traced, spans: Spans
) -> None:
    async with traced(ON) as rig:
        rig.sandbox.faults.append(UpstreamFault(kind="status", status=500))
        await rig.generate(await rig.key("red"), PROMPT, headers={"X-Request-Id": "failed"})
        key = await rig.key("blue", limits=Limits(images_per_day=0))
        await rig.generate(key, PROMPT, headers={"X-Request-Id": "refused"})
    for span in (spans.request("failed"), spans.by_name[CALL]):
        assert attributes(span)["error.type"] == "upstream_failed"
        assert span.status.status_code is StatusCode.ERROR
        assert not span.events
    assert "store release" in spans.by_name
    refused = spans.request("refused")
    assert attributes(refused)["http.response.status_code"] == 429
    assert refused.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("prompts", [False, True])
async def test_spans_hold_no_key_or_path_and_a_prompt_only_if_enabled(
    traced: Traced, spans: Spans, prompts: bool
) -> None:
    async with traced(f"{ON}prompts = {prompts}\n".lower()) as rig:
        key = await rig.key()
        await rig.generate(key, PROMPT)
        await rig.get(f"/v1/{key}")
    exported = "\n".join(span.to_json() for span in spans.get_finished_spans())
    assert [secret in exported for secret in (key, key.rpartition("_")[2], UPSTREAM_KEY)] == [
        False
    ] * 3
    assert (PROMPT in exported) is prompts
    if prompts:
        (message,) = json.loads(str(attributes(spans.by_name[CALL])["gen_ai.input.messages"]))
        assert message == {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}


ABSENT = """
import sys, gateway.server.run
from gateway.cli.main import gateway
# redis-py imports some of OpenTelemetry where that is installed.
print({"gateway.telemetry.otel", "opentelemetry.exporter"} & sys.modules.keys())
sys.modules["opentelemetry.exporter"] = None
try:
    gateway(["serve", "--demo"], standalone_mode=False)
except Exception as error:
    print(error)
"""


def test_opentelemetry_is_imported_where_enabled_and_its_absence_is_an_error(
    tmp_path: Path,
) -> None:
    environ = {**CLEAN, "PYTHONPATH": str(ROOT), "GATEWAY_TRACING_ENABLED": "true"}
    command = [sys.executable, "-c", ABSENT]
    ended = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=True)
    imported, output = ended.stdout.decode().strip().split("\n")
    assert imported == "set()"
    assert "image-gateway[otel]: opentelemetry.exporter" in output
    assert output.endswith("is not installed.")


async def test_the_environment_says_where_spans_go(tmp_path: Path, receiver: Receiver) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.origin, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    async with program(tmp_path, TRACING_ENABLED="true") as gateway:
        await gateway.start("serve", "--sandbox", variables=variables)
        url, _ = await gateway.listening()
        async with aiohttp.ClientSession() as session:
            await session.get(f"{url}/v1/models")
        message, *_ = await receiver.until(1)
    (resource,) = ExportTraceServiceRequest.FromString(message.body).resource_spans
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "image-gateway"
    (scope,) = resource.scope_spans
    assert [span.name for span in scope.spans] == ["GET /v1/models"]


class Stuck(SpanExporter):
    """A collector that does not answer until a test releases it."""

    def __init__(self) -> None:
        self.asked, self.go = Event(), Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        assert self.go.wait(60)
        return SpanExportResult.SUCCESS


def test_a_collector_that_hangs_does_not_delay_a_stop() -> None:
    stuck = Stuck()
    tracing = OpenTelemetryTracing(store="sqlite", prompts=False, exporter=stuck)
    with tracing.store("load"):
        pass
    closing = Thread(target=tracing.close, daemon=True)
    closing.start()
    try:
        assert stuck.asked.wait(30)
        closing.join(30)
        assert not closing.is_alive()
    finally:
        stuck.go.set()
