"""Why no connection to the upstream came about, in words for its operator.

aiohttp's errors hold the request's headers, and so the key: only what the operating system, the
resolver or OpenSSL said goes on.
"""

import os
import socket
import ssl
from typing import Literal

import aiohttp

Cause = Literal["timeout", "dns", "tls", "refused", "network"]


def why_unreachable(failure: aiohttp.ClientError) -> tuple[Cause, str]:
    """The kind of a failure to connect, and its details."""
    match failure:
        case aiohttp.ConnectionTimeoutError():
            return "timeout", "no connection within connect_seconds"
        case aiohttp.ClientConnectorDNSError():
            return "dns", _told(failure.os_error)
        case aiohttp.ClientConnectorCertificateError():
            return "tls", _told(failure.certificate_error)
        case aiohttp.ClientConnectorSSLError():
            return "tls", _told(failure.os_error)
        case aiohttp.ClientConnectorError():
            refused = isinstance(failure.os_error, ConnectionRefusedError)
            return "refused" if refused else "network", _told(failure.os_error)
    return "network", type(failure).__name__


def _told(failure: Exception) -> str:
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
