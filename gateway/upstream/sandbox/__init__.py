"""A stand-in for the paid API: it speaks the contract, draws real pictures, and counts.

What it reads and refuses is written down here a second time, apart from the gateway's own rules:
a mistake in those must not be repeated by what they are tested against.
"""

from gateway.upstream.sandbox.counts import Counts, Received
from gateway.upstream.sandbox.faults import Fault
from gateway.upstream.sandbox.server import Sandbox
from gateway.upstream.sandbox.state import Answer, Picture, SandboxSettings

__all__ = ["Answer", "Counts", "Fault", "Picture", "Received", "Sandbox", "SandboxSettings"]
