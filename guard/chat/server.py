"""The proxy's process: its listener, from start to graceful shutdown."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import uvicorn

from guard.chat import judges
from guard.chat.options import ChatOptions
from guard.chat.proxy import Judge, app
from guard.errors import ConfigError, ServiceError
from guard.moderator import Moderator
from guard.serve.client.asynchronous import AsyncGuardClient
from guard.serve.client.channel import is_loopback
from guard.serve.limits import Limits

KEEP_ALIVE_SECONDS = 75
CONNECTIONS = 1024
CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Where the proxy listens (port 0: a free one), and where the model's server is: its base URL, as OpenAI's client
    takes it, mostly ending in /v1. Raises ConfigError for what is no such URL.

    api_key: sent there in place of callers' own. seconds: how long the server may send nothing. drain_seconds: how long
    open requests may take at shutdown.
    """

    upstream: str
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    seconds: float = 600.0
    drain_seconds: float = 30.0
    options: ChatOptions = field(default_factory=ChatOptions)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        parts = urlsplit(self.upstream)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("the upstream must be a URL like http://127.0.0.1:8001/v1")


class _Embedded(uvicorn.Server):
    """Leaves the signals to the process that it is part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def proxying(guard: Moderator | AsyncGuardClient, settings: ProxySettings) -> AsyncIterator[str]:
    """A running proxy: its URL. On exit open requests are answered, for `drain_seconds`."""
    if isinstance(guard, Moderator):
        async with judges.local(guard, settings.limits) as judge, _listening(judge, settings) as url:
            yield url
    else:
        async with _listening(judges.remote(guard), settings) as url:
            yield url


@asynccontextmanager
async def _listening(judge: Judge, settings: ProxySettings) -> AsyncIterator[str]:
    host = urlsplit(settings.upstream).hostname or ""
    client = httpx.AsyncClient(
        base_url=settings.upstream.rstrip("/") + "/",
        timeout=httpx.Timeout(settings.seconds, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=64),
        trust_env=not is_loopback(f"[{host}]" if ":" in host else host),
    )
    config = uvicorn.Config(
        app(judge, client, settings.options, settings.limits, settings.api_key),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        bound = socket.create_server((settings.host, settings.port), family=family)
    except OSError as problem:
        reason = os.strerror(problem.errno) if problem.errno else problem.strerror
        raise ServiceError(f"cannot listen on {settings.host}:{settings.port}: {reason}; give another --port") from None
    server = _Embedded(config)
    ended = asyncio.create_task(server.serve([bound]), name="guard-proxy")
    while not server.started and not ended.done():
        await asyncio.sleep(0.001)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        async with client:
            yield f"http://{shown}:{bound.getsockname()[1]}"
            server.should_exit = True
            await asyncio.wait([ended])
    finally:
        server.should_exit = True
        await asyncio.wait([ended])


async def run(guard: Moderator | AsyncGuardClient, settings: ProxySettings, announce: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then answers what is open; a second signal ends the process. Main thread only."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        stopping.set()

    async with proxying(guard, settings) as url:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop)
        announce(url)
        await stopping.wait()
