"""TLS and mutual TLS of both listeners: who gets in, what the others are told, and rotation without a restart."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import socket
import ssl
import time
from pathlib import Path

import httpx
import pytest
import trustme

from guard import AsyncGuardClient, Conversation, GuardClient, Outcome
from guard.errors import ConfigError, ServiceError
from guard.serve.client.tls import Tls
from guard.serve.config import TlsFiles
from guard.serve.tls import Certificates
from tests.fixtures.served import serve, started

HELLO = Conversation.of("hello")
YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def other_ca() -> trustme.CA:
    return trustme.CA()


def signer(ca: trustme.CA, path: Path) -> Path:
    ca.cert_pem.write_to_path(str(path))
    return path


def issued(
    ca: trustme.CA, folder: Path, name: str = "127.0.0.1", expires: datetime.datetime | None = None
) -> tuple[Path, Path]:
    """The files of a certificate and its key, put in place one after the other as a secret's mount does."""
    made = ca.issue_cert(name, not_after=expires)
    certificate, key = folder / "tls.crt", folder / "tls.key"
    for path, data in (
        (certificate, b"".join(each.bytes() for each in made.cert_chain_pems)),
        (key, made.private_key_pem.bytes()),
    ):
        path.with_suffix(".new").write_bytes(data)
        os.replace(path.with_suffix(".new"), path)
    return certificate, key


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


async def ask(address: str, tls: Tls | None) -> str:
    """The verdict over gRPC, or the error's text."""
    async with AsyncGuardClient(address, 5, tls=tls) as client:
        try:
            return (await client.moderate(HELLO)).outcome.value
        except ServiceError as error:
            return str(error)


async def post(url: str | None, ca: Path | None, shown: tuple[Path, Path] | None = None) -> str:
    """The verdict over HTTP, or the error's text."""
    context = ssl.create_default_context(cafile=ca) if ca else False
    if shown is not None:
        assert isinstance(context, ssl.SSLContext)
        context.load_cert_chain(*shown)
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=5) as client:
        try:
            return str((await client.post(f"{url}/v1/check", json={"prompt": "hello"})).json()["outcome"])
        except httpx.TransportError as error:
            return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("case", ["right", "wrong CA", "expired", "wrong name"])
async def test_whom_clients_trust(case: str, ca: trustme.CA, other_ca: trustme.CA, tmp_path: Path) -> None:
    name = "elsewhere.test" if case == "wrong name" else "127.0.0.1"
    certificate, key = issued(ca, tmp_path, name, YESTERDAY if case == "expired" else None)
    trusted = signer(other_ca if case == "wrong CA" else ca, tmp_path / "ca.pem")
    async with serve(rest=True, tls=TlsFiles(certificate, key)) as served:
        url = served.running.rest_url
        assert url is not None
        assert url.startswith("https://127.0.0.1:")
        said = await ask(served.running.address, Tls(trusted)), await post(url, trusted)
        if case == "right":
            assert said == ("SAFE", "SAFE")
        else:
            assert "does it use TLS, with a certificate that your `ca` signed for this name?" in said[0]
            assert "CERTIFICATE_VERIFY_FAILED" in said[1]
        assert await ask(served.running.address, Tls(signer(ca, tmp_path / "ca.pem"))) == (
            "SAFE" if case in ("right", "wrong CA") else said[0]
        )


async def test_clients_must_show_a_certificate_of_the_right_signer(
    ca: trustme.CA, other_ca: trustme.CA, tmp_path: Path
) -> None:
    certificate, key = issued(ca, tmp_path)
    trusted, signers = signer(ca, tmp_path / "ca.pem"), signer(other_ca, tmp_path / "clients.pem")
    good = issued(other_ca, folder(tmp_path, "good"), "app")
    bad = issued(ca, folder(tmp_path, "bad"), "app")
    late = issued(other_ca, folder(tmp_path, "late"), "app", YESTERDAY)
    async with serve(rest=True, tls=TlsFiles(certificate, key, signers)) as served:
        address, url = served.running.address, served.running.rest_url
        for shown in (None, bad, late):
            assert "cannot be reached" in await ask(address, Tls(trusted, *(shown or ())))
            assert "Error: " in await post(url, trusted, shown)
        assert await ask(address, Tls(trusted, *good)) == "SAFE"
        assert await post(url, trusted, good) == "SAFE"


async def test_plain_text_to_a_tls_port_and_tls_to_a_plain_port(ca: trustme.CA, tmp_path: Path) -> None:
    trusted = signer(ca, tmp_path / "ca.pem")
    async with serve(rest=True, tls=TlsFiles(*issued(ca, tmp_path))) as served:
        url = str(served.running.rest_url)
        assert "cannot be reached" in await ask(served.running.address, None)
        assert "Error: " in await post(url.replace("https", "http"), None)
        for address in (served.running.address, url.removeprefix("https://")):
            await asyncio.to_thread(garbage, address)
        assert await ask(served.running.address, Tls(trusted)) == "SAFE"
        assert await post(url, trusted) == "SAFE"
    async with serve(rest=True) as served:
        assert "does it use TLS" in await ask(served.running.address, Tls(trusted))
        assert "Error: " in await post(str(served.running.rest_url).replace("http", "https"), trusted)
        assert await ask(served.running.address, None) == "SAFE"


def garbage(address: str) -> None:
    """Sends what is no handshake; the server must close the connection."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)))
        try:
            while raw.recv(4096):
                pass
        except ConnectionError:
            pass


async def test_old_versions_of_tls_are_refused(ca: trustme.CA, tmp_path: Path) -> None:
    async with serve(rest=True, tls=TlsFiles(*issued(ca, tmp_path))) as served:
        context = ssl.create_default_context(cafile=signer(ca, tmp_path / "ca.pem"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        for address in (served.running.address, str(served.running.rest_address)):
            assert await asyncio.to_thread(handshake, address, context) == "TLSv1.2"
            # Python's own ssl need not offer TLS 1.1 any more; a bare ClientHello of that version does.
            assert await asyncio.to_thread(old_hello, address)


def handshake(address: str, context: ssl.SSLContext) -> str | None:
    host, _, port = address.rpartition(":")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((host, int(port)), 5) as raw,
        context.wrap_socket(raw, server_hostname=host) as secure,
    ):
        return secure.version()


def old_hello(address: str) -> bool:
    """Whether a ClientHello of TLS 1.1 is answered by an alert or by the end of the connection."""
    hello = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x04\xc0\x13\x00\x2f" + b"\x01\x00"
    message = b"\x01" + len(hello).to_bytes(3) + hello
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.sendall(b"\x16\x03\x01" + len(message).to_bytes(2) + message)
        try:
            return raw.recv(1) in (b"\x15", b"")
        except ConnectionError:
            return True


async def test_certificates_are_replaced_without_a_restart(ca: trustme.CA, tmp_path: Path) -> None:
    fresh_ca = trustme.CA()
    certificate, key = issued(ca, tmp_path)
    clients = signer(ca, tmp_path / "clients.pem")
    old, new = signer(ca, tmp_path / "old.pem"), signer(fresh_ca, tmp_path / "new.pem")
    mine = issued(ca, folder(tmp_path, "mine"), "app")
    theirs = issued(fresh_ca, folder(tmp_path, "theirs"), "app")
    async with serve(rest=True, tls=TlsFiles(certificate, key, clients), client_tls=Tls(old, *mine)) as served:
        address, url = served.running.address, served.running.rest_url
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE  # its connection stays open
        assert await post(url, old, mine) == "SAFE"
        issued(fresh_ca, tmp_path)
        signer(fresh_ca, clients)
        await asyncio.sleep(1.05)
        assert await ask(address, Tls(new, *theirs)) == "SAFE"
        assert await post(url, new, theirs) == "SAFE"
        assert "cannot be reached" in await ask(address, Tls(new, *mine))
        assert "Error: " in await post(url, new, mine)
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE


def test_a_pair_that_does_not_match_leaves_the_last_good_one(ca: trustme.CA, tmp_path: Path) -> None:
    certificate, key = issued(ca, tmp_path)
    certificates = Certificates(TlsFiles(certificate, key), look_seconds=0)
    good = certificates._files.value
    elsewhere = issued(ca, folder(tmp_path, "elsewhere"))
    os.replace(elsewhere[0], certificate)
    assert certificates._files.value is good
    os.replace(elsewhere[1], key)
    assert certificates._files.value is not good


def test_files_that_cannot_be_used(ca: trustme.CA, tmp_path: Path) -> None:
    certificate, key = issued(ca, tmp_path)
    other = issued(ca, folder(tmp_path, "other"))
    none, text = tmp_path / "none.pem", tmp_path / "text.pem"
    text.write_text("kumquat")
    pair = "not a certificate chain and its private key"
    for tls, said in (
        (TlsFiles(none, key), f"{none}: no such file"),
        (TlsFiles(certificate, none), f"{none}: no such file"),
        (TlsFiles(certificate, other[1]), pair),
        (TlsFiles(text, key), pair),
        (TlsFiles(certificate, key, text), f"{text}: not certificates in PEM"),
        (TlsFiles(certificate, key, none), f"{none}: no such file"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)) as refused:
            Certificates(tls)
        assert "kumquat" not in str(refused.value)
    for tls in (Tls(none), Tls(certificate=certificate), Tls(certificate, key=key)):
        with pytest.raises(ConfigError):
            GuardClient("127.0.0.1:1", tls=tls)


def test_the_command_and_the_environment(ca: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = issued(ca, tmp_path)
    options = ["--rest-port", "0", "--tls-certificate", str(certificate), "--tls-key", str(key)]
    monkeypatch.setenv("GUARD_TLS_CA", str(signer(ca, tmp_path / "ca.pem")))
    with started(tmp_path / "stderr", *options) as process:
        assert process.url.startswith("https://")
        with GuardClient(process.address) as client:
            assert client.moderate(HELLO).outcome is Outcome.SAFE
        begun = time.monotonic()
        process.popen.terminate()
        assert process.popen.wait(20) == 0
        assert time.monotonic() - begun < 10
    assert (tmp_path / "stderr").read_text() == ""
