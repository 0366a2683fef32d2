"""TLS of clients: whom they trust, and the certificate that they show."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from guard.errors import ConfigError

CA, CERTIFICATE, KEY = "GUARD_TLS_CA", "GUARD_TLS_CERTIFICATE", "GUARD_TLS_KEY"
PUBLIC = "public"  # of GUARD_TLS_CA


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM. ca: who signed the server's certificate; None: the public authorities that gRPC brings along.

    certificate, key: the client's own, where the server asks for one.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def of_environment(cls) -> Tls | None:
        """That of the variables GUARD_TLS_CA (a file, or `public`), GUARD_TLS_CERTIFICATE and GUARD_TLS_KEY."""
        given = [os.environ.get(name) or None for name in (CA, CERTIFICATE, KEY)]
        if not any(given):
            return None
        ca, certificate, key = (None if text in (None, PUBLIC) else Path(text) for text in given)
        return cls(ca, certificate, key)


def credentials(tls: Tls | None) -> grpc.ChannelCredentials | None:
    """The credentials of a channel; None for a plain one. tls None: that of the environment.

    Raises ConfigError for a file that cannot be read, or a certificate without its key.
    """
    chosen = Tls.of_environment() if tls is None else tls
    if chosen is None:
        return None
    if (chosen.certificate is None) != (chosen.key is None):
        raise ConfigError("a client's certificate and its key go together; give both or none")
    return grpc.ssl_channel_credentials(_read(chosen.ca), _read(chosen.key), _read(chosen.certificate))


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}") from None
