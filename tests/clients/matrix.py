"""Cells of a matrix: one client asks for one image, and something goes wrong on the way.

All cells run at once. Each has a team, a prompt, and a proxy between its client and the gateways,
which takes its connections to each gateway in turn. The upstream looks up by the prompt what is to
go wrong. Times are in beats, so that they can be long where a machine is busy.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import product
from pathlib import Path

from msgspec import Struct, json
from msgspec.structs import replace

from gateway.core.model import Team
from gateway.quota.ledger import Ledger
from gateway.upstream.sandbox import Sandbox, UpstreamFault
from tests.clients.retrying import DELIVERED, Ask, Wish
from tests.support.directory import new_key, put_teams
from tests.support.replicas import Gateways, running_gateways
from tests.support.steps import drawing, until
from tests.support.tcp_proxy import Fault, TcpProxy, tcp_proxy

DEADLINE_BEATS = 2.0
"""How long the gateways wait for the upstream."""

PATIENT_BEATS = 30.0
QUICK_BEATS = 0.1

BUSY_SECONDS = 60.0
"""How long any step may take on a busy machine."""

_LARGE = {"created": 1, "data": [{"b64_json": "A" * 4_000_000}]}
"""More than the buffers of a connection hold, and little enough for gateways to hand over."""


class Trouble(Struct, frozen=True, kw_only=True):
    """What goes wrong on the way.

    - `upstream`: at the upstream, at every call. It draws after `latency` beats.
    - `cuts`: on the connections between the client and the gateways, one each.
    - `cut_while_drawing`: the client's connection is cut when its call has reached the upstream.
    - `patience`: how long the client waits for an answer to one attempt, in beats.
    - `delivered`: whether the client has its image in the end. None leaves that to chance: on a
      busy machine an answer that comes shortly after the deadline may still count.
    """

    upstream: UpstreamFault | None = None
    latency: float = QUICK_BEATS
    cuts: Sequence[Fault] = ()
    cut_while_drawing: bool = False
    patience: float = PATIENT_BEATS
    delivered: bool | None = False


TROUBLES: Mapping[str, Trouble] = {
    "upstream cut before headers": Trouble(upstream=UpstreamFault(kind="cut_before_headers")),
    "upstream cut in body": Trouble(upstream=UpstreamFault(kind="cut_in_body")),
    "upstream timeout": Trouble(upstream=UpstreamFault(kind="hang")),
    "upstream late": Trouble(latency=DEADLINE_BEATS + 0.2, delivered=None),
    "upstream late in body": Trouble(
        upstream=UpstreamFault(kind="slow_body", after=DEADLINE_BEATS + 0.2), delivered=None
    ),
    "upstream 504": Trouble(upstream=UpstreamFault(kind="status", status=504)),
    "client cut before headers": Trouble(latency=0.8, cut_while_drawing=True, delivered=True),
    "client cut in body": Trouble(
        upstream=UpstreamFault(
            kind="status", status=200, body=json.encode(_LARGE).decode(), draws=True
        ),
        cuts=[Fault(kind="cut"), Fault(kind="cut", at=100_000)],
        delivered=True,
    ),
    "client timeout": Trouble(latency=1.25, patience=1.0, delivered=True),
}


class Cell(Struct, frozen=True, kw_only=True):
    """One field of the matrix."""

    gateways: int
    client: str
    trouble: str
    cache: bool

    @property
    def name(self) -> str:
        """Its prompt and the name of its team."""
        cache = "cached" if self.cache else "not-cached"
        return f"{self.gateways}-{self.client}-{self.trouble.replace(' ', '-')}-{cache}"

    @property
    def plan(self) -> Trouble:
        return TROUBLES[self.trouble]


def cells_of(
    gateways: int,
    clients: Iterable[str],
    troubles: Iterable[str] = TROUBLES,
    caches: Iterable[bool] = (True, False),
) -> list[Cell]:
    """All cells of so many gateways, these clients and these troubles."""
    return [
        Cell(gateways=gateways, client=client, trouble=trouble, cache=cache)
        for client, trouble, cache in product(clients, troubles, caches)
    ]


class TroubledSandbox(Sandbox):
    """A sandbox that looks up the fault and the latency of each call by its prompt."""

    def __init__(self, cells: Sequence[Cell], beat: float) -> None:
        super().__init__(drawing())
        self._plans = {cell.name: cell.plan for cell in cells}
        self._beat = beat

    def next_fault(self) -> UpstreamFault | None:
        """See `State`. The call is the request that arrived last; its latency is read next."""
        prompt = json.decode(self.counts.requests[-1].body)["prompt"]
        plan = self._plans.get(prompt, Trouble())
        self.settings.latency = plan.latency * self._beat
        fault = plan.upstream
        return fault and replace(fault, after=fault.after * self._beat)

    def drawn(self, prompt: str) -> list[int]:
        """How many images each call for this prompt has drawn so far."""
        return [
            received.images_drawn
            for received in self.counts.requests
            if json.decode(received.body)["prompt"] == prompt
        ]


class Matrix:
    """The cells, with their gateways, keys and proxies. `beat` is in seconds."""

    def __init__(
        self,
        cells: Sequence[Cell],
        gateways: Gateways,
        sandbox: TroubledSandbox,
        keys: Mapping[str, str],
        proxies: Mapping[str, TcpProxy],
        beat: float,
    ) -> None:
        self.cells = cells
        self._gateways = gateways
        self._sandbox = sandbox
        self._keys = keys
        self._proxies = proxies
        self._beat = beat

    def wishes(self, client: str = "") -> dict[str, Wish]:
        """What is asked for in the cells of this client, or in all, straight from the gateways."""
        return {
            cell.name: Wish(
                url=self._proxies[cell.name].url,
                key=self._keys[cell.name],
                prompt=cell.name,
                seconds=cell.plan.patience * self._beat,
            )
            for cell in self.cells
            if client in ("", cell.client)
        }

    async def run(self, asks: Mapping[str, Ask], wishes: Mapping[str, Wish] = {}) -> str:
        """Run all cells at once. Returns the wrong ones, a line each.

        `wishes` has those of some cells, to be asked for in another way.
        """
        wishes = {**self.wishes(), **wishes}
        ends = await asyncio.gather(
            *(self._run(cell, asks[cell.client], wishes[cell.name]) for cell in self.cells)
        )
        await until(lambda: self._sandbox.counts.in_flight == 0, BUSY_SECONDS)
        recorded = await self._recorded()
        return "\n".join(
            f"{cell.name}: {drawn} drawn, {recorded.get(cell.name, 0)} recorded, {end}"
            for cell, end in zip(self.cells, ends, strict=True)
            if (drawn := sum(self._sandbox.drawn(cell.name)), recorded.get(cell.name)) != (1, 1)
            or cell.plan.delivered not in (end == DELIVERED, None)
        )

    async def _run(self, cell: Cell, ask: Ask, wish: Wish) -> str:
        proxy = self._proxies[cell.name]
        proxy.faults = iter(cell.plan.cuts)
        asking = asyncio.create_task(ask(wish))
        if cell.plan.cut_while_drawing:
            await until(lambda: bool(self._sandbox.drawn(cell.name)), BUSY_SECONDS)
            proxy.cut()
        return await asking

    async def _recorded(self) -> dict[str, int]:
        """The images that each team has bought, as the usage says."""
        for gateway in (rig.gateway for rig in self._gateways.rigs):
            await until(partial(_is_written, gateway.proxy.ledger), BUSY_SECONDS)
            await gateway.flush()
        rows = await self._gateways.rigs[0].store.usage.report(["team"], None, None)
        return {row.group[0]: row.images_bought for row in rows}


def _is_written(ledger: Ledger) -> bool:
    return not ledger.unwritten


@asynccontextmanager
async def matrix(
    folder: Path,
    cells: Sequence[Cell],
    beat: float = 1.0,
    head: float | None = None,
    **environ: str,
) -> AsyncIterator[Matrix]:
    """The gateways, teams, keys and proxies of these cells. A beat is in seconds.

    The gateways send the heads of late streams after `head` beats, by default as they do. `environ`
    adds to their environment.
    """
    sandbox = TroubledSandbox(cells, beat)
    deadline = {
        "UPSTREAM_CONNECT_SECONDS": str(beat),
        "UPSTREAM_TIMEOUT_SECONDS": str(DEADLINE_BEATS * beat),
    }
    async with (
        running_gateways(folder, cells[0].gateways, sandbox, **deadline, **environ) as gateways,
        AsyncExitStack() as running,
    ):
        if head is not None:
            for rig in gateways.rigs:
                rig.gateway.public.beat_seconds = head * beat
        first = gateways.rigs[0].gateway
        directory = first.store.directory
        await put_teams(directory, [Team(name=cell.name, cache=cell.cache) for cell in cells])
        keys = {cell.name: await new_key(directory, first.pepper, cell.name) for cell in cells}
        await gateways.refresh()
        ports = [int(rig.url.rpartition(":")[2]) for rig in gateways.rigs]
        proxies = {
            cell.name: await running.enter_async_context(tcp_proxy(*ports)) for cell in cells
        }
        yield Matrix(cells, gateways, sandbox, keys, proxies, beat)
