"""Copies of the gateway with one safeguard taken out: the simulation must find each of them.

docs/how-we-know.md has this list as a table. Run it by hand: `python -m tests.simulation.mutants`.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from msgspec import Struct

ROOT = Path(__file__).parents[2]
SEEDS = 1_000
"""How many seeds a mutant may survive before it counts as not found."""


class Mutant(Struct, frozen=True):
    """One safeguard, and the edit of one file that takes it out."""

    safeguard: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant(
        "Ledger, race 1: a swap that lost against another process is decided again",
        "quota/ledger.py",
        "            if not won:\n                return False\n",
        "",
    ),
    Mutant(
        "Ledger, race 2: a repeated reservation finds its hold",
        "quota/steps.py",
        "if (known := team.holds.get(self.id) or team.swept.get(self.id)) is not None:",
        "if (known := team.swept.get(self.id)) is not None:",
    ),
    Mutant(
        "Ledger, races 2 and 3: the accounts of a lost swap are written again",
        "quota/ledger.py",
        "                self._unsure.update(changed)\n",
        "",
    ),
    Mutant(
        "Ledger, race 3: giving up releases a reservation that may have been written",
        "quota/ledger.py",
        "            self._submit(step.release(forget=True))\n",
        "            pass\n",
    ),
    Mutant(
        "Ledger, race 5: an outcome is retried for as long as the process lives",
        "quota/ledger.py",
        "                self._unavailable = type(failure)\n",
        "                self._unavailable = type(failure)\n                break\n",
    ),
    Mutant(
        "Ledger, race 7: a purchase that the store lost is charged again",
        "quota/ledger.py",
        "lost=step.id not in written)",
        "lost=False)",
    ),
    Mutant(
        "Ledger, race 7: only a purchase without a usage entry is charged again",
        "quota/ledger.py",
        "lost=step.id not in written)",
        "lost=True)",
    ),
    Mutant(
        "Steps: a hold counts against the budget",
        "quota/refusal.py",
        "if state.used + state.held + asked > state.size:",
        "if state.used + asked > state.size:",
    ),
    Mutant(
        "Steps: a sweep charges what it frees",
        "quota/steps.py",
        "account = for_both(charge_hold, account, hold, hold.images, hold.cost)",
        "account = for_both(charge_hold, account, hold, 0, 0)",
    ),
    Mutant(
        "Steps: a swept hold is remembered for an outcome that comes late",
        "quota/steps.py",
        "swept={**remembered(account.swept, now), **due},",
        "swept=remembered(account.swept, now),",
    ),
    Mutant(
        "Steps: a late outcome replaces the unknown charge",
        "quota/holds.py",
        "        closing = recharge_hold\n",
        "        closing = charge_hold\n",
    ),
    Mutant(
        "Steps: the gateway's own account is closed with the team's",
        "quota/holds.py",
        "    if hold.in_gateway:\n        common = closing(common, hold, images, cost)\n",
        "",
    ),
    Mutant(
        "Steps: an outcome counts for the day of its reservation",
        "quota/account.py",
        "        day=change(counters.day, day_of(hold.at)),",
        "        day=change(counters.day, counters.day.period),",
    ),
    Mutant(
        "Sweep: expired holds are looked for",
        "quota/ledger.py",
        "        for account in await self.store.due():\n",
        '        for account in [""][:0]:\n',
    ),
    Mutant(
        "Limits: a minute covers 60 s at any fraction of a second",
        "quota/account.py",
        "MINUTE_BUCKETS = 61",
        "MINUTE_BUCKETS = 55",
    ),
    Mutant(
        "Pipeline: an unclear end is charged",
        "proxy/pipeline.py",
        "if isinstance(failure, UpstreamError) and not failure.charged:",
        "if isinstance(failure, UpstreamError):",
    ),
    Mutant(
        "Pipeline: every image that was delivered is charged",
        "proxy/pipeline.py",
        "await self.holds.settle(reservation, held, answered.images, cost, cached=cached)",
        "await self.holds.settle(\n"
        "            reservation, held, min(answered.images, request.n), cost, cached=cached\n"
        "        )",
    ),
    Mutant(
        "Account: images above a reservation count against the limits",
        "quota/account.py",
        "            period, images, cost\n",
        "            period, min(images, hold.images), cost\n",
    ),
    Mutant(
        "Single flight, race 1: an identical request joins",
        "core/single_flight.py",
        "if name is not None and self.under_way(name):",
        "if name is None and self.under_way(str(name)):",
    ),
    Mutant(
        "Election: a gateway that finds a holder waits",
        "proxy/election.py",
        "        if rival is None:\n            candidate.lease = lease\n",
        "        if rival is None or rival:\n            candidate.lease = lease\n",
    ),
    Mutant(
        "Election, race 3: a candidate looks into the cache before it buys",
        "proxy/election.py",
        "found = candidate.handed_over or await look()  # race 3",
        "found = candidate.handed_over",
    ),
    Mutant(
        "Election: a lease is renewed while its holder lives",
        "proxy/election.py",
        "        self._renewal_due = _now() + self.lease_seconds * 0.3\n        for batch",
        "        self._renewal_due = _now() + self.lease_seconds * 30\n        for batch",
    ),
    Mutant(
        "Operations: a repeat of an unknown outcome is refused",
        "quota/operations.py",
        "return longest if longest is not None and longest.seconds > 0 else None",
        "return None",
    ),
    Mutant(
        "Operations: a gateway with open operations says that it is alive",
        "proxy/operations.py",
        "if self._open or self._kept:",
        "if not self:",
    ),
    Mutant(
        "Operations: a purchase without a client is taken over",
        "proxy/operations.py",
        "self.ledger.note(Leave(record=ticket.name, id=ticket.id, whole=whole))",
        "pass",
    ),
    Mutant(
        "Operations: only one request takes over an operation",
        "quota/operations.py",
        "free = [each for each in answers if not each.claim]",
        "free = answers",
    ),
    Mutant(
        "Operations: a request that leaves gives back what it took over",
        "quota/operations.py",
        "        return _with(operations, _given_back(claimed))\n",
        "        return operations\n",
    ),
    Mutant(
        "Operations: nobody takes over the purchase of a client that waits",
        "quota/operations.py",
        "for each in free if each.left and (each.fresh or not wish.fresh)]",
        "for each in free if each.fresh or not wish.fresh]",
    ),
    Mutant(
        "Operations: a marked retry takes over a purchase that still runs",
        "quota/operations.py",
        "            or [each for each in running if not each.claim]\n"
        "            or [each for each in running if each.retried]\n",
        "",
    ),
    Mutant(
        "Operations: a request for a new image takes over only a purchase of a new image",
        "quota/operations.py",
        "for each in free if each.left and (each.fresh or not wish.fresh)]",
        "for each in free if each.left]",
    ),
    Mutant(
        "Operations: a request for a new image is no repeat of an ordinary one",
        "quota/operations.py",
        "        and (each.fresh or not wish.fresh)\n    ]",
        "    ]",
    ),
    Mutant(
        "Operations: a repeat is refused for a limited time",
        "quota/operations.py",
        "return longest if longest is not None and longest.seconds > 0 else None",
        "return longest",
    ),
    Mutant(
        "Operations: a request takes over only purchases of its own key line",
        "quota/operations.py",
        'return f"{line}:{digest}"',
        "return digest",
    ),
    Mutant(
        "Operations: nobody takes over a purchase that failed for certain",
        "quota/operations.py",
        "return _only(left(operations, id), lambda each: each.id != id)",
        "return left(operations, id)",
    ),
    Mutant(
        "Operations: a request that took over a purchase gets its failure",
        "proxy/operations.py",
        "if running is not None and isinstance(failure, GatewayError):",
        "if running is None and isinstance(failure, GatewayError):",
    ),
    Mutant(
        "Operations: a client that leaves while its answer is sent is noted",
        "quota/operations.py",
        "own = operations.get(id) or whole",
        "own = operations.get(id)",
    ),
    Mutant(
        "Operations: the answer of a client that leaves while it is sent is kept",
        "proxy/operations.py",
        "        elif ticket.bought is not None:\n"
        "            self._keep(ticket)\n"
        "            self._close(ticket)\n",
        "",
    ),
    Mutant(
        "Operations: an answer is handed to the gateway that took it over",
        "proxy/operations.py",
        'if found is None or found.claimant in ("", self.gateway):',
        "if found is None or found:",
    ),
    Mutant(
        "Operations: nobody takes over an answer that was delivered",
        "proxy/operations.py",
        "            self.ledger.note(Deliver(record=ticket.name, id=ticket.id))\n",
        "",
    ),
    Mutant(
        "Names: an operation that holds a name is shared",
        "quota/named.py",
        "        if held is not None:\n            return StepResult({}, held)\n",
        "",
    ),
    Mutant(
        "Names: the operation of a dead gateway is unknown",
        "quota/operations.py",
        '    return replace(operation, state="unknown", ended=ended)\n',
        '    return replace(operation, state="failed", ended=ended)\n',
    ),
]


def first_failure(mutant: Mutant, seeds: int = SEEDS) -> str | None:
    """Return a seed that fails and its violation, or None if all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "gateway"
        shutil.copytree(ROOT / "gateway", copy, ignore=shutil.ignore_patterns("assets", "__pyc*"))
        file = copy / mutant.file
        source = file.read_text()
        if source.count(mutant.old) != 1:
            raise ValueError(f"{mutant.safeguard}: its code is not there once in {mutant.file}")
        file.write_text(source.replace(mutant.old, mutant.new))
        # Before the checkout itself, whose `tests` are used.
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join((folder, str(ROOT)))}
        command = [
            sys.executable,
            "-m",
            "tests.simulation",
            "--first",
            f"0-{seeds - 1}",
        ]
        done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    seed = re.search(r"^seed (\d+):", done.stdout, re.MULTILINE)
    if seed is None:
        raise RuntimeError(done.stdout + done.stderr)
    return f"seed {seed[1]}: {done.stdout.splitlines()[-1].strip()}"


def main() -> int:
    """Print what finds each mutant."""
    missed = 0
    for mutant in MUTANTS:
        found = first_failure(mutant)
        missed += found is None
        click.echo(f"{mutant.safeguard}\n    {found or 'NOT FOUND'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
