"""Faults of an upstream, which tests switch on.

A prompt never switches a fault on: every prompt is drawn.
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


class UpstreamFault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault of the next `times` valid requests. If `times` is None, it lasts until it is reset.

    Every kind waits for the latency first. It draws the images, and so costs money, unless its
    response says plainly that it did not. `draws` overrides that.

    - "status": `status` with `body` (default: OpenAI's error, or the page of an edge) and with
      `headers` on top of the usual ones; an empty value removes a header.
    - "cut_before_headers", "cut_in_body": drops the connection. "hang": never answers.
    - "not_json": 200 with a page. "no_image": without data. "empty_image": with a null image.
    - "fewer": `images` images instead of n.
    - "huge": 200 with more than `bytes` bytes. "gzip_bomb": inflates to more than `bytes` bytes.
    - "gzip": a compressed body. "slow_body": a body that takes `after` seconds.
    - "echo_key": 400 with the Authorization header in its message.
    - "set_cookie": a cookie, rate limits and hop-by-hop headers.
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
        """Whether the images are drawn, and so cost money."""
        if self.draws is not None:
            return self.draws
        if self.kind == "status":
            # These come from an edge while the origin may still be drawing.
            return self.status in (408, 502, 504) or 520 <= self.status <= 527
        return self.kind != "echo_key"
