"""The section of gateway.toml about pictures: where they are kept, and how clients get them."""

import re
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from gateway.config import values
from gateway.config.options import RESTART
from gateway.core.faults import InvalidValue
from gateway.core.model import Deliver

MIB = 1024 * 1024

FOLDER = "file:"
BUCKET = "s3://"

_BUCKET = re.compile(
    rf"{BUCKET}([a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9])(?:/([A-Za-z0-9_-][A-Za-z0-9/._-]*)?)?"
)
"""The bucket's name, as S3 allows it, and the prefix of its objects."""

LINKED: frozenset[Deliver] = frozenset({"url", "both"})
"""The forms that need links to pictures."""

NO_LINKS = (
    "needs links to pictures: [images] must be enabled, and with a Redis its url must be a bucket, "
    "or a folder that all gateways share (shared = true)"
)


def _check_url(text: str) -> None:
    """Check the place of the image store."""
    if text.startswith(BUCKET):
        path = text.removeprefix(BUCKET)
        if _BUCKET.fullmatch(text) is None or "//" in path or "/." in path:
            raise InvalidValue(
                f"write {BUCKET}, the bucket's name and perhaps a prefix, and nothing else: "
                "credentials and the endpoint come from the environment"
            )
        return
    if not text.startswith(FOLDER):
        raise InvalidValue(f"it starts neither with {FOLDER} nor with {BUCKET}")
    if text.startswith(f"{FOLDER}//"):
        raise InvalidValue(f"write {FOLDER} and the path, without //")
    if text == FOLDER:
        raise InvalidValue("the path is missing")


class ImagesSettings(Struct, frozen=True, kw_only=True):
    """The pictures that the gateway keeps, and the form in which clients get them.

    Options:
        enabled: false keeps no pictures, and no answers over a restart.
        deliver: Form in which clients get pictures, unless their team or the request asks for
            another; "auto" is the upstream's, with b64_json added to a URL; "upstream" is as it
            came.
        url: Folder for pictures and, without a [cache] url, for cached answers, as file: and a
            path; or an S3 bucket for pictures, as s3://bucket/prefix, which needs the extra "s3".
        credentials_file: File with the bucket's credentials in AWS's format (section [default]);
            the gateway reads it every ten seconds. Without it, they come from the environment.
        shared: true if all gateways of this installation use the same folder. With a Redis, links
            to pictures need it, or a bucket.
        max_bytes: Disk space for them; the least recently used ones leave first. A bucket has no
            such limit.
        ttl_seconds: Time that they are kept without a use, but no less than link_seconds; without
            it, the cache's ttl_seconds. In a bucket, older ones are written again before a link
            to them is made.
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
            description="file: and the path of a folder, such as file:data/images, or s3://, the "
            "name of a bucket and perhaps a prefix, such as s3://bucket/prefix",
            extra={"check": _check_url},
        ),
        RESTART,
    ] = "file:data/images"
    credentials_file: Annotated[values.File | None, RESTART] = None
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
    def is_bucket(self) -> bool:
        """Whether pictures are in a bucket, not in a folder."""
        return self.url.startswith(BUCKET)

    @property
    def is_shared(self) -> bool:
        """Whether all gateways find each other's pictures."""
        return self.shared or self.is_bucket

    @property
    def folder(self) -> Path:
        """The folder of the image store."""
        return Path(self.url.removeprefix(FOLDER))

    @property
    def bucket(self) -> tuple[str, str]:
        """The name of the bucket, and the prefix of its objects, which may be empty."""
        found = _BUCKET.fullmatch(self.url)
        return ("", "") if found is None else (found[1], (found[2] or "").rstrip("/"))
