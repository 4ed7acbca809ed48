"""Checks of a request's head that aiohttp's parser leaves out: framing, host and target.

A proxy and the gateway that read a head differently disagree about where its request ends, and one
client's bytes become another's request (request smuggling). So the gateway refuses a head that can
be read in more than one way, and closes the connection.
"""

import re
from functools import lru_cache

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.hdrs import CONTENT_LENGTH, HOST, METH_CONNECT, TRANSFER_ENCODING
from aiohttp.http import RawRequestMessage

from gateway.core.errors import GatewayError, InvalidRequest

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.~%-]{1,255})(?::(\d{1,5}))?", re.ASCII)
"""A name, an IPv4 or an IPv6 address, with or without a port: RFC 9110, section 7.2."""

_PORTS = 65_536

_LENGTH_DIGITS = 20
"""As many as 64 bits need. Python refuses to read thousands, even if most of them are zeros."""


def framing_error(message: RawRequestMessage) -> GatewayError | None:
    """Return the error of a head that can be read in more than one way, or None.

    Sources: RFC 9112, sections 2.3 (version), 3.2 (host), 3.2.1 (target) and 6.1 (transfer
    codings), and RFC 9110, section 9.3.6 (CONNECT).
    """
    headers = message.headers
    if not HttpVersion10 <= message.version <= HttpVersion11:  # the parser takes 0.9 and 2.0, too
        return _invalid("Only HTTP/1.1 and HTTP/1.0 are supported.")
    if message.method == METH_CONNECT:  # its body would be the next request
        return _invalid("CONNECT is not allowed.")
    if TRANSFER_ENCODING in headers:
        codings = headers.getall(TRANSFER_ENCODING)
        if message.version < HttpVersion11 or CONTENT_LENGTH in headers:
            return _invalid("Transfer-Encoding is not allowed here.")
        if [coding.strip().lower() for coding in codings] != ["chunked"]:
            return _invalid("Transfer-Encoding may only be chunked.")
    if len(headers.get(CONTENT_LENGTH, "")) > _LENGTH_DIGITS:
        return _invalid("The Content-Length has too many digits.")
    if not _is_host(headers.get(HOST)):
        return _invalid("The Host header must be one host name, with or without a port.")
    if "#" in message.path:
        return _invalid("The request target must not have a fragment (#).")
    return None


def _invalid(text: str) -> InvalidRequest:
    return InvalidRequest(text, code="invalid_http")


@lru_cache(maxsize=64)  # clients of one address send the same host: most are looked up
def _is_host(host: str | None) -> bool:
    """Whether it is one host, or none: aiohttp refuses several, and HTTP/1.1 without one."""
    if host is None:
        return True
    found = _HOST.fullmatch(host)
    return found is not None and int(found[1] or 0) < _PORTS
