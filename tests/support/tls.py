"""Certificates for tests, and clients that trust only their authority."""

import ssl
from pathlib import Path

import trustme


class Issued:
    """A certificate for `host` by a new authority (PEM), which `client` trusts."""

    def __init__(self, host: str = "127.0.0.1", kind: trustme.KeyType = trustme.KeyType.ECDSA):
        authority = trustme.CA()
        self.authority = authority.cert_pem.bytes()
        self._leaf = authority.issue_cert(host, key_type=kind)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)

    @property
    def cert(self) -> bytes:
        """The certificate chain, as PEM."""
        return b"".join(blob.bytes() for blob in self._leaf.cert_chain_pems)

    @property
    def key(self) -> bytes:
        """Its key, as PEM without a password."""
        return self._leaf.private_key_pem.bytes()

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both into a folder, as tls.crt and tls.key; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        cert, key = folder / "tls.crt", folder / "tls.key"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return cert, key
