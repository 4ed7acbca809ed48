"""What a trace is told of a request's way.

Without tracing, nothing is: `UNTRACED` is in its place, and nothing further is imported. The one
that is told is `gateway.telemetry.otel`.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from gateway.config.settings import UpstreamSettings
from gateway.core.model import ImageRequest
from gateway.quota.token_usage import Usage
from gateway.telemetry.request_record import RequestRecord


class UpstreamSpan(Protocol):
    """One call to the upstream, in a trace."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What tells the upstream which trace the call belongs to."""

    def answered(self, usage: Usage) -> None:
        """Tell what the answer says of tokens."""


class Tracing(Protocol):
    """Each method gives a block's span; an error that leaves the block is told by its code."""

    def request(
        self, method: str, route: str, headers: Mapping[str, str], record: RequestRecord
    ) -> AbstractContextManager[object]:
        """A client's request, with the trace that its headers name and what `record` says in the
        end. `route` is one of the gateway's paths, "" for any other.
        """

    def store(self, operation: str) -> AbstractContextManager[object]:
        """A wait for the store."""

    def upstream(
        self, request: ImageRequest, settings: UpstreamSettings
    ) -> AbstractContextManager[UpstreamSpan]:
        """A call to the upstream, and the reading of its answer."""


class _Unheard:
    headers: Mapping[str, str] = {}

    def answered(self, usage: Usage) -> None:
        return


class Untraced:
    """Tells nobody."""

    _nothing = nullcontext()
    _unheard = nullcontext(_Unheard())

    def request(
        self, method: str, route: str, headers: Mapping[str, str], record: RequestRecord
    ) -> AbstractContextManager[object]:
        """No span."""
        return self._nothing

    def store(self, operation: str) -> AbstractContextManager[object]:
        """No span."""
        return self._nothing

    def upstream(
        self, request: ImageRequest, settings: UpstreamSettings
    ) -> AbstractContextManager[UpstreamSpan]:
        """No span."""
        return self._unheard


UNTRACED = Untraced()
