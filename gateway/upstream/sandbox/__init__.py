"""A stand-in for the paid API: it speaks the contract, draws real pictures, and counts.

The sandbox has its own copy of the contract's checks. It must not share the gateway's, because a
mistake there must not be repeated by the upstream that the gateway is tested against.
"""

from gateway.upstream.sandbox.server import Sandbox
from gateway.upstream.sandbox.state import Answer, Picture, SandboxSettings, UpstreamFault

__all__ = ["Answer", "Picture", "Sandbox", "SandboxSettings", "UpstreamFault"]
