"""A stand-in for the paid API: it speaks the contract, draws real pictures, and counts.

The sandbox has its own copy of the contract's checks. It must not share the gateway's, because a
mistake there must not be repeated by the upstream that the gateway is tested against.
"""

from gateway.upstream.sandbox.counts import Counts, Received
from gateway.upstream.sandbox.faults import UpstreamFault
from gateway.upstream.sandbox.server import Sandbox
from gateway.upstream.sandbox.state import Answer, Picture, SandboxSettings

__all__ = ["Answer", "Counts", "Picture", "Received", "Sandbox", "SandboxSettings", "UpstreamFault"]
