"""TLS on the public port, with real clients: served, renewed at SIGHUP, refused if unusable."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from gateway.cli.check_config import find_faults
from gateway.server.tls import Certificate
from gateway.upstream.sandbox import Sandbox
from tests.support.process import running_process
from tests.support.reloading import KEPT, READ_AGAIN, reloadable
from tests.support.rig import FLAT, Client
from tests.support.steps import drawing, key_in, until
from tests.support.tls import Issued

MISMATCH = "the key in {key} does not belong to the certificate in {cert}"
DAMAGES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "other key": (lambda cert, key: key.write_bytes(Issued().key), MISMATCH),
    "other kind of key": (
        lambda cert, key: key.write_bytes(Issued(kind=trustme.KeyType.RSA).key),
        MISMATCH,
    ),
    "no key": (
        lambda cert, key: key.unlink(),
        "the file {key} cannot be read: No such file or directory",
    ),
    "encrypted key": (
        lambda cert, key: key.write_bytes(encrypted(key.read_bytes())),
        "the key is encrypted: use a key file without a password",
    ),
    "half a certificate": (
        lambda cert, key: cert.write_bytes(cert.read_bytes()[:200]),
        "{cert} and {key} do not hold a certificate and its key as PEM",
    ),
}


def files_of(folder: Path, issued: Issued) -> dict[str, str]:
    """The environment of a gateway with this certificate."""
    cert, key = issued.write(folder)
    return {"SERVER_TLS_CERT": str(cert), "SERVER_TLS_KEY": str(key)}


@asynccontextmanager
async def one_connection(trusted: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=trusted, limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def version_of(url: str, trusted: ssl.SSLContext) -> str:
    """The TLS version of a client's connection. Raises SSLError if it does not trust the server."""
    port = int(url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
    version: str = writer.get_extra_info("ssl_object").version()
    writer.close()
    return version


def encrypted(key: bytes) -> bytes:
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a password"),
    )


# -- serving ------------------------------------------------------------------------------------


async def test_the_public_port_speaks_tls_and_the_admin_port_does_not(tmp_path: Path) -> None:
    issued = Issued()
    async with reloadable(tmp_path, **files_of(tmp_path, issued)) as (gateway, _):
        key = await gateway.key()
        assert gateway.url.startswith("https://")
        assert gateway.admin_url.startswith("http://")
        async with one_connection(issued.client) as session:
            assert (await Client(session, gateway.url).generate(key)).status == 200
        with pytest.raises(aiohttp.ClientError):
            await gateway.generate(key, "by a client that does not trust the certificate")
        with pytest.raises(aiohttp.ClientError):
            await gateway.session.get(gateway.url.replace("https", "http"))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            issued.client.maximum_version = version
            assert await version_of(gateway.url, issued.client) == version.name.replace("_", ".")


def test_older_versions_are_refused(tmp_path: Path) -> None:
    cert, key = Issued().write(tmp_path)
    assert Certificate(str(cert), str(key)).context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_unusable_certificate_is_refused_with_the_reason(tmp_path: Path, damage: str) -> None:
    cert, key = Issued().write(tmp_path)
    spoil, reason = DAMAGES[damage]
    spoil(cert, key)
    with pytest.raises(ValueError, match=re.escape(reason.format(cert=cert, key=key))):
        Certificate(str(cert), str(key))


# -- a renewed certificate ----------------------------------------------------------------------


async def test_a_renewed_certificate_does_not_affect_open_connections(tmp_path: Path) -> None:
    old, new = Issued(), Issued(kind=trustme.KeyType.RSA)
    files = files_of(tmp_path, old)
    async with (
        Sandbox(drawing(latency=1)) as upstream,
        running_process(tmp_path, upstream.url, FLAT, **files) as gateway,
        one_connection(old.client) as session,
    ):
        key, client = await key_in(tmp_path), Client(session, gateway.url)
        under_way = asyncio.create_task(client.generate(key, "apple"))
        await until(lambda: upstream.counts.asked == 1)
        new.write(tmp_path)
        (line,) = await gateway.reread()
        assert line["event"] == READ_AGAIN
        assert line["changed"] == ["[server] tls_cert"]
        (line,) = await gateway.reread()
        assert line["changed"] == []
        assert await version_of(gateway.url, new.client) == "TLSv1.3"
        with pytest.raises(ssl.SSLCertVerificationError):
            await version_of(gateway.url, old.client)
        assert (await under_way).status == 200
        # The connection is still the same: a new one would fail, as above.
        assert (await client.generate(key, "apple")).headers["Age"]


async def test_an_unusable_renewed_certificate_changes_nothing(tmp_path: Path) -> None:
    issued, renewed = Issued(), Issued()
    async with reloadable(tmp_path, **files_of(tmp_path, issued)) as (rig, config):
        for damage in ("other kind of key", "half a certificate"):
            spoil, reason = DAMAGES[damage]
            cert, key = issued.write(tmp_path)
            spoil(cert, key)
            (line,) = await config.reread(rig.gateway)
            assert line["event"] == KEPT
            assert line["fault"] == "[server] tls_cert: " + reason.format(cert=cert, key=key)
            assert await version_of(rig.url, issued.client) == "TLSv1.3"
        renewed.write(tmp_path)
        assert (await config.reread(rig.gateway))[-1]["event"] == READ_AGAIN
        assert await version_of(rig.url, renewed.client) == "TLSv1.3"


# -- gateway check-config -----------------------------------------------------------------------


def test_check_config_reports_it(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[server]\ntls_cert = "no.crt"\ntls_key = "no.key"')
    (fault,), _ = find_faults(config, None, {})
    wrong = "the file no.crt cannot be read: No such file or directory"
    assert str(fault) == f"{config}: [server] tls_cert: {wrong}"
