"""The certificate that the public port shows, where it speaks TLS itself.

A renewed one is loaded into a context of its own, and shown to all who connect once that has
worked. Loaded into the context in use, one with a wrong key would leave half of each there. Who is
connected already notices nothing.
"""

import ssl
from pathlib import Path
from typing import NamedTuple

from gateway.config.settings import ServerSettings

_OF_ANOTHER = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL says of a key that is not the certificate's; the last one if it is of another kind,
when the key takes the certificate's place."""


class Loaded(NamedTuple):
    """A certificate that was read: ready to be shown, and as it is written."""

    context: ssl.SSLContext
    certificate: bytes


class Certificate:
    """The certificate and key in two files. Raises ValueError as `read` does.

    A server listens with `context`.
    """

    def __init__(self, cert: str, key: str) -> None:
        self._files = cert, key
        self._shown = self.read()
        self.context = self._shown.context
        self.context.sni_callback = self._choose

    def read(self) -> "Loaded":
        """What is in the files now. Raises ValueError, whose text says why that is of no use."""
        cert, key = self._files
        for file in self._files:
            _require_readable(file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; those of 1.3 are all good
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(cert, key, password=_refuse_to_ask)
        except ssl.SSLError as error:
            if error.reason in _OF_ANOTHER:
                reason = f"the key in {key} does not belong to the certificate in {cert}"
            else:
                reason = f"{cert} and {key} do not hold a certificate and its key as PEM"
            raise ValueError(reason) from None
        return Loaded(context, Path(cert).read_bytes())

    def show(self, read: "Loaded") -> bool:
        """Show what was read to all who connect from now on; whether that is another one."""
        former, self._shown = self._shown, read
        return read.certificate != former.certificate

    def _choose(self, tls: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        """Called in each handshake, whether or not the client names a host."""
        tls.context = self._shown.context


def certificate_of(server: ServerSettings) -> Certificate | None:
    """What the public port shows; None where it speaks plain HTTP. Raises ValueError."""
    if server.tls_cert is None or server.tls_key is None:
        return None
    return Certificate(server.tls_cert, server.tls_key)


def _require_readable(file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"the file {file} cannot be read: {error.strerror}") from None


def _refuse_to_ask() -> str:
    """Without this OpenSSL would ask for a password at the terminal, and wait."""
    raise ValueError("the key is encrypted: nobody is there to type its password")
