"""The cause of a failed connection, in words for the operator.

aiohttp's errors contain the request's headers, and so the key. Only the texts of the operating
system, the resolver and OpenSSL are passed on.
"""

import os
import socket
import ssl
from typing import Literal

import aiohttp

Cause = Literal["timeout", "dns", "tls", "refused", "network"]


def why_unreachable(failure: aiohttp.ClientError) -> tuple[Cause, str]:
    """Return the kind of a failed connection, and its details."""
    match failure:
        case aiohttp.ConnectionTimeoutError():
            return "timeout", "no connection within connect_seconds"
        case aiohttp.ClientConnectorDNSError():
            return "dns", _detail(failure.os_error)
        case aiohttp.ClientConnectorCertificateError():
            return "tls", _detail(failure.certificate_error)
        case aiohttp.ClientConnectorSSLError():
            return "tls", _detail(failure.os_error)
        case aiohttp.ClientConnectorError():
            refused = isinstance(failure.os_error, ConnectionRefusedError)
            return "refused" if refused else "network", _detail(failure.os_error)
    return "network", type(failure).__name__


def _detail(failure: Exception) -> str:
    match failure:
        case ssl.SSLCertVerificationError():
            return failure.verify_message
        case ssl.SSLError():
            return failure.reason or "TLS failed"
        case socket.gaierror():
            return failure.strerror or "no address"
        case OSError(errno=int(number)):
            return os.strerror(number)  # asyncio puts the address in the error's own text
    return type(failure).__name__
