"""What can go wrong in an upstream, switched on by whoever tests against the sandbox.

Never by what a prompt says: every prompt is drawn.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

Kind = Literal[
    "status",
    "cut_before_headers",
    "cut_in_body",
    "hang",
    "not_json",
    "no_image",
    "empty_image",
    "fewer",
    "huge",
    "gzip",
    "gzip_bomb",
    "echo_key",
    "set_cookie",
    "slow_body",
]

Count = Annotated[int, Meta(ge=0, le=1_000)]
Size = Annotated[int, Meta(ge=0, le=2**36)]


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong, for the next `times` valid requests (None: until it is reset).

    Every kind waits for the sandbox's latency first, and draws (and so costs money) unless the
    upstream says plainly that it did not: `draws`, where set, decides otherwise.

    - "status": answers `status` with `body` (default: OpenAI's error, or the page of an edge) and
      `headers` on top of the usual ones, which an empty value takes away.
    - "cut_before_headers", "cut_in_body": the connection is dropped; "hang": no answer at all.
    - "not_json": 200 with a page; "no_image": with no data; "empty_image": with a null picture.
    - "fewer": `images` come instead of as many as were asked for.
    - "huge": 200 with more than `bytes` bytes; "gzip_bomb": one that inflates to more.
    - "gzip": the answer compressed; "slow_body": its body takes `after` seconds.
    - "echo_key": 400 with the Authorization header in its message.
    - "set_cookie": the answer with a cookie, rate limits and headers for the next hop alone.
    """

    kind: Kind
    times: Annotated[int, Meta(ge=1)] | None = None
    status: Annotated[int, Meta(ge=200, le=599)] = 500
    body: str | None = None
    headers: Mapping[str, str] = {}
    images: Count = 0
    bytes: Size = 2**26
    after: Annotated[float, Meta(ge=0, le=86_400)] = 1.0
    draws: bool | None = None

    @property
    def costs(self) -> bool:
        """Whether the images are drawn, and so have to be paid."""
        if self.draws is not None:
            return self.draws
        if self.kind == "status":
            # What an edge says tells nothing of the origin: that one draws.
            return self.status in (408, 502, 504) or 520 <= self.status <= 527
        return self.kind != "echo_key"
