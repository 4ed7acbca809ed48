"""The TLS certificate of the public port, and the files of a TLS client.

A renewed certificate is loaded into a new context, and new connections get it once that has
worked. Loading it into the context in use would mix both certificates if the new key is wrong.
Existing connections notice nothing.
"""

import ssl
from collections.abc import Mapping
from typing import NamedTuple

from gateway.config.files import read_file
from gateway.config.settings import ServerSettings

_KEY_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's errors for a key of another certificate. It reports the last one if the key is of
another kind, because the key then replaces the certificate."""


class LoadedCertificate(NamedTuple):
    """A certificate that was read: its context for connections, and the bytes of its file."""

    context: ssl.SSLContext
    certificate: bytes


class Certificate:
    """The certificate and key in two files. A server listens with `context`.

    Raises ValueError if the files cannot be used.
    """

    def __init__(self, cert: str, key: str) -> None:
        self._files = cert, key
        self._current = self.read()
        self.context = self._current.context
        self.context.sni_callback = self._choose

    def read(self) -> "LoadedCertificate":
        """Read the files. Raises ValueError with the reason if they cannot be used."""
        cert, key = self._files
        content, _ = map(read_file, self._files)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # For TLS 1.2: all ciphers of 1.3 are good.
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        context.set_alpn_protocols(["http/1.1"])
        _load_certificate(context, cert, key)
        return LoadedCertificate(context, content)

    def use(self, read: "LoadedCertificate") -> bool:
        """Use `read` for all new connections. True if it is another certificate than before."""
        former, self._current = self._current, read
        return read.certificate != former.certificate

    def _choose(self, tls: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        """Select the context in each handshake, even if the client names no host."""
        tls.context = self._current.context


def certificate_of(server: ServerSettings) -> Certificate | None:
    """The certificate of the public port; None for plain HTTP. Raises ValueError."""
    if server.tls_cert is None or server.tls_key is None:
        return None
    return Certificate(server.tls_cert, server.tls_key)


def check_client_files(files: Mapping[str, str]) -> None:
    """Check the files of a TLS client, by the names of their options in a store's URL.

    Raises ValueError with the reason if one cannot be used.
    """
    for file in files.values():
        read_file(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority := files.get("ssl_ca_certs"):
        try:
            context.load_verify_locations(authority)
        except ssl.SSLError:
            raise ValueError(f"{authority} does not hold a certificate as PEM") from None
    if cert := files.get("ssl_certfile"):
        _load_certificate(context, cert, files["ssl_keyfile"])


def _load_certificate(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Load a certificate and its key. Raises ValueError with the reason."""
    try:
        context.load_cert_chain(cert, key, password=_refuse_to_ask)
    except ssl.SSLError as error:
        if error.reason in _KEY_MISMATCH:
            reason = f"the key in {key} does not belong to the certificate in {cert}"
        else:
            reason = f"{cert} and {key} do not hold a certificate and its key as PEM"
        raise ValueError(reason) from None


def _refuse_to_ask() -> str:
    """Refuse, because OpenSSL would otherwise wait for a password at the terminal."""
    raise ValueError("the key is encrypted: use a key file without a password")
