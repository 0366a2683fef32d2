"""TLS of both listeners, whose certificates are read again when their files change."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from guard.errors import ConfigError
from guard.serve.config import TlsFiles
from guard.serve.core.watched import Watched


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """What the files held at one time, in PEM, and the context that was made of it."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    context: ssl.SSLContext


class Certificates:
    """The certificate, key and clients' signers of `tls`, for handshakes from now on; open connections keep theirs.

    A pair of which only one file was replaced yet is not taken; the last good one stays.
    Raises ConfigError if they cannot be used at first.
    """

    def __init__(self, tls: TlsFiles, look_seconds: float | None = None) -> None:
        if tls.certificate is None or tls.key is None:
            raise ConfigError("TLS needs tls.certificate and tls.key")
        files = [path for path in (tls.certificate, tls.key, tls.client_ca) if path is not None]
        certificate, key, client_ca = tls.certificate, tls.key, tls.client_ca
        self._required = client_ca is not None
        self._files = Watched("certificates", files, lambda: _identity(certificate, key, client_ca), look_seconds)

    def credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server: each handshake asks for what is valid now."""
        given = self._files.value

        def changed() -> Any:
            nonlocal given
            now = self._files.value
            if now is given:
                return None
            given = now
            return _configuration(now)

        return grpc.dynamic_ssl_server_credentials(_configuration(given), changed, self._required)

    def context(self) -> ssl.SSLContext:
        """For asyncio: each handshake uses the context that is valid now."""
        return _Current(self._files)


class _Current(ssl.SSLContext):
    """Stands for the context of the latest files. Python can replace those of a context but for its signers."""

    _files: Watched[Identity]

    def __new__(cls, files: Watched[Identity]) -> _Current:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made._files = files
        return made

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self._files.value.context.wrap_bio(*arguments, **options)


def _identity(certificate: Path, key: Path, client_ca: Path | None) -> Identity:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # never ask at the terminal
    except FileNotFoundError:
        missing = key if certificate.is_file() else certificate
        raise ConfigError(f"{missing}: no such file") from None
    except (OSError, ValueError):
        raise ConfigError(
            f"{certificate} and {key}: not a certificate chain and its private key, unencrypted, in PEM"
        ) from None
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except FileNotFoundError:
            raise ConfigError(f"{client_ca}: no such file") from None
        except (OSError, ValueError):
            raise ConfigError(f"{client_ca}: not certificates in PEM") from None
        context.verify_mode = ssl.CERT_REQUIRED
    try:
        signers = None if client_ca is None else client_ca.read_bytes()
        return Identity(certificate.read_bytes(), key.read_bytes(), signers, context)
    except OSError as problem:
        raise ConfigError(f"{problem.filename}: {problem.strerror}") from None


def _configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(identity.key, identity.certificate)], identity.client_ca)
