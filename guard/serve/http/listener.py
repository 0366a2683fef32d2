"""The HTTP listener of any application: uvicorn in the event loop of whatever else runs there."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from guard.errors import ServiceError
from guard.serve.http.protocol import BoundedProtocol

KEEP_ALIVE_SECONDS = 75  # longer than gateways keep idle connections, so that they close them, and not the server


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


def bound_to(host: str, port: int) -> socket.socket:
    """A listening socket for asyncio. OSError if the address is taken or is none of this machine.

    It names its protocol, as create_server's does not: asyncio sets TCP_NODELAY only on connections of such sockets,
    and without it the body of each response waits until the client acknowledges the head, which takes it 40 ms.
    """
    server = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    return socket.socket(server.family, server.type, socket.IPPROTO_TCP, server.detach())


@asynccontextmanager
async def listening(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    option: str,
    connections: int,
    head_seconds: float,
    drain_seconds: float,
    context: Callable[[], ssl.SSLContext] | None = None,
) -> AsyncIterator[Listener]:
    """A listener on the port; 0: a free one. On exit open requests are answered, for `drain_seconds`.

    option: that of the command by which the port is chosen. connections: at most. head_seconds: that the head of a
    request may take. context: for TLS, asked for each handshake. Raises ServiceError if it cannot listen.
    """
    config = uvicorn.Config(
        app,
        http=cast(Any, partial(BoundedProtocol, head_seconds=head_seconds)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=1024,
        limit_concurrency=connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
        ssl_context_factory=None if context is None else lambda *_: context(),
    )
    try:
        # Bound here, and not by uvicorn, which ends the process where it cannot.
        bound = bound_to(host, port)
    except OSError as problem:
        reason = os.strerror(problem.errno) if problem.errno else problem.strerror
        raise ServiceError(f"cannot listen on {host}:{port}: {reason}; give another --host or {option}") from None
    server = _Embedded(config)
    ended = asyncio.create_task(server.serve([bound]), name="guard-http")
    while not server.started and not ended.done():
        await asyncio.sleep(0.001)
    try:
        yield Listener(bound.getsockname()[1], ended)
    finally:
        server.should_exit = True
        await asyncio.wait([ended])
