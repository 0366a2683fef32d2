"""The proxy's process: its listener, from start to graceful shutdown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from guard.chat import judges
from guard.chat.options import ChatOptions
from guard.chat.proxy import Judge, app
from guard.errors import ConfigError
from guard.moderator import Moderator
from guard.serve.client.asynchronous import AsyncGuardClient
from guard.serve.client.channel import is_loopback
from guard.serve.http.listener import listening
from guard.serve.limits import Limits
from guard.serve.signals import stopping

CONNECTIONS = 1024
CONNECT_SECONDS = 10.0
HEAD_SECONDS = 10.0


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


@asynccontextmanager
async def proxying(guard: Moderator | AsyncGuardClient, settings: ProxySettings) -> AsyncIterator[str]:
    """A running proxy: its URL. On exit open requests are answered, for `drain_seconds`."""
    if isinstance(guard, Moderator):
        async with judges.local(guard, settings.limits, settings.options) as judge, _listening(judge, settings) as url:
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
    made = app(judge, client, settings.options, settings.limits, settings.api_key)
    async with (
        client,
        listening(
            made,
            settings.host,
            settings.port,
            option="--port",
            connections=CONNECTIONS,
            head_seconds=HEAD_SECONDS,
            drain_seconds=settings.drain_seconds,
        ) as listener,
    ):
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield f"http://{shown}:{listener.port}"


async def run(guard: Moderator | AsyncGuardClient, settings: ProxySettings, announce: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then answers what is open; a second signal ends the process. Main thread only."""
    async with proxying(guard, settings) as url:
        ending = stopping()
        announce(url)
        await ending.wait()
