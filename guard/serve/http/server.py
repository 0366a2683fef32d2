"""The HTTP listener: uvicorn in the event loop of the service."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn

from guard.errors import ServiceError
from guard.serve.config import Settings
from guard.serve.core.keys import Keys
from guard.serve.core.live import Live
from guard.serve.core.service import Service
from guard.serve.http.app import app
from guard.serve.http.protocol import BoundedProtocol
from guard.serve.http.table import TRANSLATORS
from guard.serve.metrics import Metrics
from guard.serve.tls import Certificates

KEEP_ALIVE_SECONDS = 75  # longer than gateways keep idle connections, so that they close them, and not the server
FLUSH_SECONDS = 1  # for responses that a client does not read


@dataclass(frozen=True, slots=True)
class Listener:
    """An HTTP server on `port`; `ended` when its own loop has."""

    port: int
    ended: asyncio.Task[None]


class _Embedded(uvicorn.Server):
    """Leaves the signals to the process that it is part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def prepare(service: Service) -> None:
    """Prepares what the wire formats need of the service's own policy, which may take a second."""
    for translator in TRANSLATORS:
        if translator.prepare is not None:
            await asyncio.to_thread(translator.prepare, service.moderator.policy)


@asynccontextmanager
async def listening(
    live: Live,
    metrics: Metrics,
    keys: Keys | None,
    certificates: Certificates | None,
    port: int,
    settings: Settings,
) -> AsyncIterator[Listener]:
    """A listener on the port. Raises ServiceError if it cannot listen."""
    config = uvicorn.Config(
        app(live, metrics, keys),
        http=cast(Any, partial(BoundedProtocol, head_seconds=settings.head_seconds)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=1024,
        limit_concurrency=settings.connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=FLUSH_SECONDS,
        ssl_context_factory=None if certificates is None else lambda *_: certificates.context(),
    )
    host = settings.host
    try:
        # Bound here, and not by uvicorn, which ends the process where it cannot.
        bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as problem:
        reason = os.strerror(problem.errno) if problem.errno else problem.strerror
        raise ServiceError(f"cannot listen on {host}:{port}: {reason}; give another --host or --rest-port") from None
    server = _Embedded(config)
    ended = asyncio.create_task(server.serve([bound]), name="guard-http")
    while not server.started and not ended.done():
        await asyncio.sleep(0.001)
    try:
        yield Listener(bound.getsockname()[1], ended)
    finally:
        server.should_exit = True
        await asyncio.wait([ended])
