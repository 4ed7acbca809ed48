"""The section of gateway.toml about pictures: where they are kept, and how clients get them."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from gateway.config import values
from gateway.config.options import RESTART
from gateway.core.faults import InvalidValue
from gateway.core.model import Deliver

MIB = 1024 * 1024

SCHEME = "file:"


LINKED: frozenset[Deliver] = frozenset({"url", "both"})
"""The forms that need links to pictures."""

NO_LINKS = (
    "needs links to pictures: [images] must be enabled, and with a Redis its folder must be one "
    "that all gateways share (shared = true)"
)


def _check_url(text: str) -> None:
    """Check the place of the image store."""
    if not text.startswith(SCHEME):
        raise InvalidValue(f"it does not start with {SCHEME}")
    if text.startswith(f"{SCHEME}//"):
        raise InvalidValue(f"write {SCHEME} and the path, without //")
    if text == SCHEME:
        raise InvalidValue("the path is missing")


class ImagesSettings(Struct, frozen=True, kw_only=True):
    """The pictures that the gateway keeps, and the form in which clients get them.

    Options:
        enabled: false keeps no pictures on the disk, and no answers over a restart.
        deliver: Form in which clients get pictures, unless their team or the request asks for
            another; "auto" is the upstream's, with b64_json added to a URL; "upstream" is as it
            came.
        url: Folder for pictures and, without a [cache] url, for cached answers, as file: and a
            path.
        shared: true if all gateways of this installation use the same folder. With a Redis, links
            to pictures need it.
        max_bytes: Disk space for them; the least recently used ones leave first.
        ttl_seconds: Time that they are kept without a use, but no less than link_seconds; without
            it, the cache's ttl_seconds.
        link_seconds: Time that a link to a picture works.
        fetch_hosts: Hosts that pictures may be fetched from over https, although their addresses
            are private: exact names or IP addresses, without port and wildcard.
    """

    enabled: bool = True
    deliver: Deliver = "auto"
    url: Annotated[
        str,
        Meta(
            pattern=r"\A[^\x00-\x1f\x7f]*\Z",
            description="file: and the path of a folder, such as file:data/images",
            extra={"check": _check_url},
        ),
        RESTART,
    ] = "file:data/images"
    shared: Annotated[bool, RESTART] = False
    max_bytes: values.Bytes = 2048 * MIB
    ttl_seconds: values.LongSeconds | None = None
    link_seconds: values.LongSeconds = 3_600.0
    fetch_hosts: tuple[
        Annotated[
            str,
            Meta(
                pattern=r"\A(?:[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45})\Z",
                description="a host name or an IP address, without a port",
            ),
        ],
        ...,
    ] = ()

    @property
    def folder(self) -> Path:
        """The folder of the image store."""
        return Path(self.url.removeprefix(SCHEME))
