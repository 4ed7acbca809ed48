"""TLS on the public port, with real clients: served, renewed at SIGHUP, refused if unusable."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from gateway.cli.check_config import find_faults
from gateway.config.settings import ServerSettings
from gateway.server.tls import Certificate, certificate_of
from gateway.upstream.sandbox import Sandbox
from tests.support.money import drawing, until
from tests.support.process import GatewayProcess, running_process
from tests.support.program import program
from tests.support.rig import FLAT, Got
from tests.support.steps import key_in
from tests.support.tls import Issued

NO_PEM = "do not hold a certificate and its key as PEM"


@asynccontextmanager
async def gateway_with(
    folder: Path, issued: Issued, latency: float = 0
) -> AsyncIterator[tuple[GatewayProcess, Sandbox, str]]:
    """A gateway process with this certificate, its upstream and a team key."""
    cert, key = issued.write(folder)
    async with (
        Sandbox(drawing(latency=latency)) as upstream,
        running_process(
            folder, upstream.url, FLAT, SERVER_TLS_CERT=str(cert), SERVER_TLS_KEY=str(key)
        ) as gateway,
    ):
        yield gateway, upstream, await key_in(folder)


@asynccontextmanager
async def one_connection(trusted: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=trusted, limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def generate(session: aiohttp.ClientSession, url: str, key: str, prompt: str) -> Got:
    async with session.post(
        f"{url}/v1/images/generations",
        headers={"Authorization": f"Bearer {key}"},
        json={"prompt": prompt},
    ) as response:
        return await Got.read(response)


async def shown_to(url: str, trusted: ssl.SSLContext) -> str:
    """The TLS version of a client that trusts one authority. Raises SSLError."""
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
    async with gateway_with(tmp_path, issued) as (gateway, _, key):
        assert gateway.url.startswith("https://")
        assert gateway.admin_url.startswith("http://")
        async with one_connection(issued.client) as session:
            assert (await generate(session, gateway.url, key, "apple")).status == 200
        with pytest.raises(aiohttp.ClientError):
            await gateway.generate(key, "by a client that trusts nobody of ours")
        plain = gateway.url.replace("https", "http")
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(plain)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions(tmp_path: Path, version: ssl.TLSVersion) -> None:
    issued = Issued()
    async with gateway_with(tmp_path, issued) as (gateway, _, _):
        issued.client.minimum_version = issued.client.maximum_version = version
        assert await shown_to(gateway.url, issued.client) == version.name.replace("_", ".")


def test_older_versions_are_refused(tmp_path: Path) -> None:
    cert, key = Issued().write(tmp_path)
    assert Certificate(str(cert), str(key)).context.minimum_version == ssl.TLSVersion.TLSv1_2


# -- a renewed certificate ----------------------------------------------------------------------


async def test_a_renewed_certificate_does_not_affect_open_connections(tmp_path: Path) -> None:
    old, new = Issued(), Issued(kind=trustme.KeyType.RSA)
    async with (
        gateway_with(tmp_path, old, latency=1) as (gateway, upstream, key),
        one_connection(old.client) as session,
    ):
        under_way = asyncio.create_task(generate(session, gateway.url, key, "apple"))
        await until(lambda: upstream.counts.asked == 1)
        new.write(tmp_path)
        (line,) = await gateway.reread()
        assert line["event"] == "configuration read again"
        assert line["changed"] == ["[server] tls_cert"]
        (line,) = await gateway.reread()
        assert line["changed"] == []
        assert await shown_to(gateway.url, new.client) == "TLSv1.3"
        with pytest.raises(ssl.SSLCertVerificationError):
            await shown_to(gateway.url, old.client)
        assert (await under_way).status == 200
        # The connection is still the same: a new one would fail, as above.
        assert (await generate(session, gateway.url, key, "apple")).headers["Age"]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("other key", "the key in {key} does not belong to the certificate in {cert}"),
        ("other kind of key", "the key in {key} does not belong to the certificate in {cert}"),
        ("no key", "the file {key} cannot be read: No such file or directory"),
        ("half a certificate", "{cert} and {key} " + NO_PEM),
    ],
)
async def test_an_unusable_renewed_certificate_changes_nothing(
    tmp_path: Path, damage: str, fault: str
) -> None:
    issued = Issued()
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    async with gateway_with(tmp_path, issued) as (gateway, _, _):
        match damage:
            case "other key":
                key.write_bytes(Issued().key)
            case "other kind of key":
                key.write_bytes(Issued(kind=trustme.KeyType.RSA).key)
            case "no key":
                key.unlink()
            case _:
                cert.write_bytes(issued.cert[:200])
        (line,) = await gateway.reread()
        assert line["event"] == "configuration kept"
        assert line["fault"] == "[server] tls_cert: " + fault.format(cert=cert, key=key)
        assert await shown_to(gateway.url, issued.client) == "TLSv1.3"
        renewed = Issued()
        renewed.write(tmp_path)
        assert (await gateway.reread())[-1]["event"] == "configuration read again"
        assert await shown_to(gateway.url, renewed.client) == "TLSv1.3"


async def test_starting_to_use_tls_needs_a_restart(tmp_path: Path) -> None:
    Issued().write(tmp_path)
    async with (
        Sandbox(drawing()) as upstream,
        running_process(tmp_path, upstream.url, FLAT) as gateway,
    ):
        files = f'tls_cert = "{tmp_path}/tls.crt"\ntls_key = "{tmp_path}/tls.key"'
        lines = await gateway.reread(f"[server]\n{files}\n{FLAT}")
        assert [line.get("option") for line in lines] == [
            "[server] tls_cert",
            "[server] tls_key",
            None,
        ]
        assert (await gateway.models("no key")).status == 401


# -- a wrong one at the start -------------------------------------------------------------------


async def test_a_start_reports_an_unusable_certificate_in_one_line(tmp_path: Path) -> None:
    Issued().write(tmp_path)
    (tmp_path / "tls.key").write_bytes(Issued().key)
    async with program(
        tmp_path,
        UPSTREAM_BASE_URL="http://127.0.0.1:1",
        UPSTREAM_API_KEY="any",
        SERVER_TLS_CERT="tls.crt",
        SERVER_TLS_KEY="tls.key",
    ) as gateway:
        code, out, err = await gateway.run("serve")
    assert (code, out) == (1, "")
    assert "The certificate cannot be used: the key in tls.key does not belong to" in err
    assert len(err.splitlines()) == 1


def test_an_encrypted_key_is_refused_without_a_prompt(tmp_path: Path) -> None:
    cert, key = Issued().write(tmp_path)
    key.write_bytes(encrypted(key.read_bytes()))
    with pytest.raises(ValueError, match="the key is encrypted"):
        Certificate(str(cert), str(key))


def test_without_files_there_is_no_certificate() -> None:
    assert certificate_of(ServerSettings()) is None


def faults(config: Path, **environ: str) -> list[str]:
    return [str(fault) for fault in find_faults(config, None, environ)[0]]


def test_check_config_names_it(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[server]\ntls_cert = "no.crt"\ntls_key = "no.key"')
    wrong = "the file no.crt cannot be read: No such file or directory"
    assert faults(config) == [f"{config}: [server] tls_cert: {wrong}"]
    assert faults(config, GATEWAY_SERVER_TLS_CERT="no.crt") == [
        f"environment GATEWAY_SERVER_TLS_CERT: {wrong}"
    ]
    config.write_text('[server]\ntls_cert = "no.crt"')
    assert faults(config) == [f"{config}: [server] tls_key: is needed because tls_cert is set"]
