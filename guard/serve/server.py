"""The server: one service behind a gRPC and an HTTP listener, from start to graceful shutdown."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING

import grpc

from guard.errors import DISTRIBUTION, Closed, ServiceError, need
from guard.moderator import Moderator
from guard.reward.scorer import Scorer
from guard.serve.config import Settings
from guard.serve.core.audit import AuditLog
from guard.serve.core.keys import Keys
from guard.serve.core.live import Live
from guard.serve.core.observer import Observers
from guard.serve.core.request import Options
from guard.serve.core.rewards import WEIGHTS, Rewards
from guard.serve.core.service import Service
from guard.serve.grpc import server as grpc_server
from guard.serve.signals import stopping
from guard.serve.tls import Certificates

if TYPE_CHECKING:
    from guard.serve.metrics import Metrics
    from guard.serve.traces import Traces

log = logging.getLogger("guard.serve")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers gRPC at `address`, HTTP at `rest_address`, and HTTP for metrics and health alone at
    `metrics_address` (host:port)."""

    address: str
    live: Live
    rewards: Rewards
    server: grpc.aio.Server
    listeners: tuple[asyncio.Task[object], ...]  # each ends with the loop of its listener
    rest_address: str | None = None
    metrics_address: str | None = None
    tls: bool = False

    @property
    def service(self) -> Service:
        """The one that is live."""
        return self.live.service

    @property
    def rest_url(self) -> str | None:
        return self._url(self.rest_address)

    @property
    def metrics_url(self) -> str | None:
        return self._url(self.metrics_address)

    def _url(self, address: str | None) -> str | None:
        return None if address is None else f"http{'s' * self.tls}://{address}"

    async def stopped(self) -> None:
        """Returns when it has stopped answering: a batcher or the loop of a listener has ended."""
        waits = [asyncio.ensure_future(each.stopped()) for each in (self.live, self.rewards)]
        try:
            await asyncio.wait([*self.listeners, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


@asynccontextmanager
async def serving(
    moderator: Moderator,
    settings: Settings,
    reopen: Callable[[], Moderator] | None = None,
    scorers: Mapping[str, Scorer] = MappingProxyType({}),
) -> AsyncIterator[Running]:
    """A running server. reopen: opens what it judges by after a reload; the moderator that it replaces is closed.
    scorers: the reward models that the settings name, which a reload does not touch.

    On exit health reports NOT_SERVING, new requests get UNAVAILABLE or 503, accepted ones are answered, then it stops.
    Raises ServiceError if it cannot listen, ConfigError for broken files of keys or certificates, MissingExtra where
    HTTP lacks its packages.
    """
    address = _free_address(settings.host, settings.port)
    keys = None if settings.api_keys is None else Keys(settings.api_keys)
    certificates = None if settings.tls.certificate is None else Certificates(settings.tls)
    metrics = None if settings.rest_port is None and settings.metrics_port is None else _metrics()
    traces = _traces() if settings.traces else None
    observer = Observers(*(each for each in (metrics, traces) if each is not None))
    async with AsyncExitStack() as open_files, AsyncExitStack() as listeners:
        audit = None
        if traces is not None:
            open_files.callback(traces.close)
        if settings.audit.path is not None:
            audit = open_files.enter_context(closing(AuditLog(settings.audit, observer.unlogged)))

        def made(of: Moderator) -> Service:
            rule = settings.unsupported_language if of.engine.info.languages else None
            return Service(of, settings.limits, observer, settings.scores, rule, audit)

        async def prepare(fresh: Service) -> Callable[[], None]:
            if settings.rest_port is not None:
                from guard.serve.http.server import prepare  # needs the extra

                await prepare(fresh)
            info = await fresh.info(Options())

            def announce() -> None:
                observer.describe(info)
                observer.load(lambda: fresh.load)

            return announce

        live = await open_files.enter_async_context(Live(made(moderator), reopen and (lambda: made(reopen())), prepare))
        weights = {**WEIGHTS, **settings.reward_weights}
        for name in scorers.keys() - weights.keys():
            log.warning("reward model %s has no weight, so that sums leave it out; set reward_weights.%s", name, name)
        rewards = await open_files.enter_async_context(Rewards(scorers, settings.limits, observer, weights))
        listener = await listeners.enter_async_context(
            grpc_server.listening(live, rewards, keys, certificates, address, settings)
        )
        rest = operations = None
        if metrics is not None:
            from guard.serve.http import server as http  # needs the extra

            if settings.rest_port is not None:
                rest = await listeners.enter_async_context(
                    http.listening(
                        live, rewards, metrics, keys, certificates, settings.rest_port, settings, listener.port
                    )
                )
            if settings.metrics_port is not None:
                operations = await listeners.enter_async_context(
                    http.listening_for_operations(live, metrics, keys, certificates, settings.metrics_port, settings)
                )
        ends = listener.ended, *(each.ended for each in (rest, operations) if each is not None)
        try:
            yield Running(
                _join(settings.host, listener.port),
                live,
                rewards,
                listener.server,
                ends,
                None if rest is None else _join(settings.host, rest.port),
                None if operations is None else _join(settings.host, operations.port),
                certificates is not None,
            )
        finally:
            await listener.refuse()
            await asyncio.gather(live.drain(), rewards.drain(), asyncio.sleep(settings.lame_duck_seconds))


def _traces() -> Traces:
    need("opentelemetry.sdk.trace", "otel")
    need("opentelemetry.exporter.otlp.proto.grpc", "otel")
    from guard.serve.traces import Traces

    return Traces(version(DISTRIBUTION))


def _metrics() -> Metrics:
    for module in ("starlette", "uvicorn", "prometheus_client"):
        need(module, "rest")
    from guard.serve.metrics import Metrics

    return Metrics()


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _free_address(host: str, port: int) -> str:
    """host:port if it can be bound now, else ServiceError with the reason, which gRPC would only log."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen()
    except OSError as problem:
        raise ServiceError(
            f"cannot listen on {_join(host, port)}: {problem.strerror}; give another --host or --port"
        ) from None
    return _join(host, port)


async def run(
    moderator: Moderator,
    settings: Settings,
    announce: Callable[[Running], None],
    reopen: Callable[[], Moderator] | None = None,
    scorers: Mapping[str, Scorer] = MappingProxyType({}),
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once. SIGHUP reloads (`reopen`).

    Main thread only.

    announce: called once requests are answered. Raises Closed if a batcher or the loop of a listener ends by itself,
    so that a process without a listener ends. Draining takes no longer than the deadlines of the accepted requests,
    but an engine that hangs keeps the process alive.
    """
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # what it asks for is being loaded
    async with serving(moderator, settings, reopen, scorers) as running:
        loop.add_signal_handler(signal.SIGHUP, running.live.reload_soon)
        ending = stopping()
        announce(running)
        waits = [asyncio.create_task(ending.wait()), asyncio.ensure_future(running.stopped())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
    if not ending.is_set():
        raise Closed("the service stopped because its batcher or its listener failed; restart it")
