"""A stand-in for the paid API: it speaks the contract, draws real pictures, and counts."""

from gateway.upstream.sandbox.counts import Counts, Received
from gateway.upstream.sandbox.faults import Fault
from gateway.upstream.sandbox.server import Sandbox
from gateway.upstream.sandbox.settings import Answer, SandboxSettings

__all__ = ["Answer", "Counts", "Fault", "Received", "Sandbox", "SandboxSettings"]
