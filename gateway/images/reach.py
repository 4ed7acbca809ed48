"""Which URLs of pictures may be fetched, and which addresses are public.

An upstream's answer names the URL, so whoever can write into answers could point the gateway at
what only the gateway reaches: a cloud's metadata service, an admin port, a router.
"""

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from yarl import URL

MAX_URL_CHARS = 8_192

_HOST = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}", re.ASCII)
"""A host in lower case: a name, or an address of IPv6 without a zone."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = (
    IPv6Network("2001::/23"),  # protocols, such as Teredo, whose addresses embed others
    IPv6Network("2001:db8::/32"),
    IPv6Network("2002::/16"),  # 6to4: embeds an address of IPv4
    IPv6Network("3fff::/20"),
)
_NAT64 = IPv6Network("64:ff9b::/96")
"""Where a network speaks only IPv6, all hosts of IPv4 have such an address."""

_6TO4_RELAYS = IPv4Network("192.88.99.0/24")


class Origin(NamedTuple):
    """Scheme, host and port of a URL. The host is in lower case and without brackets."""

    scheme: str
    host: str
    port: int


def origin_of(url: URL) -> Origin | None:
    """Return the origin of a URL that can be called. Its text must be printable ASCII."""
    try:
        scheme, host, port = url.scheme.lower(), (url.raw_host or "").lower(), url.port
    except ValueError:
        return None
    if scheme not in ("http", "https") or not port or not _HOST.fullmatch(host):
        return None
    return Origin(scheme, host, port)


def read_url(text: str) -> URL | None:
    """Return the URL of a picture as it is to be sent, or None if it is no such URL.

    It has no user and no password: nobody else's credentials go out with a fetch.
    """
    if len(text) > MAX_URL_CHARS or not (text.isascii() and text.isprintable()) or " " in text:
        return None
    try:
        url = URL(text, encoded=True)  # a signed URL works only as it was written
        has_user = "@" in url.raw_authority
    except ValueError:
        return None
    return None if has_user or "\\" in text or origin_of(url) is None else url


def may_be_anywhere(origin: Origin, base_url: str, fetch_hosts: Collection[str]) -> bool:
    """Whether a picture of this origin may come from any address, not only from a public one."""
    if origin == origin_of(URL(base_url, encoded=True)):
        return True
    return origin.scheme == "https" and origin.host in {host.lower() for host in fetch_hosts}


def is_public(address: str) -> bool:
    """Whether an address to connect to is one of the public internet."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return False
        if ip not in _NAT64 and ip.ipv4_mapped is None:
            return ip in _GLOBAL_UNICAST and not any(ip in network for network in _NOT_PUBLIC_6)
        ip = IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.is_global and not ip.is_multicast and ip not in _6TO4_RELAYS
