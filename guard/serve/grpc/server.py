"""The server: gRPC with health and reflection around one moderator, from start to graceful shutdown."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health as health_service
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from guard.errors import Closed, ServiceError
from guard.moderator import Moderator
from guard.serve.core.service import Service
from guard.serve.grpc.servicer import SERVICE, handlers
from guard.serve.limits import Limits

FLUSH_SECONDS = 1.0  # for responses in flight after the last answer; health watchers are disconnected then


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a server listens (port 0: a free one) and its limits.

    lame_duck_seconds: how long new requests still get UNAVAILABLE during shutdown; later ones are disconnected.
    least_ping_seconds: a client that pings its connection more often than that, three times, is disconnected.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    limits: Limits = field(default_factory=Limits)
    lame_duck_seconds: float = 1.0
    least_ping_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at `address` (host:port)."""

    address: str
    service: Service
    server: grpc.aio.Server
    listener: asyncio.Task[object]  # ends with gRPC's own loop

    async def stopped(self) -> None:
        """Returns when it has stopped answering: its batcher or gRPC's own loop has ended."""
        service = asyncio.ensure_future(self.service.stopped())
        try:
            await asyncio.wait([self.listener, service], return_when=asyncio.FIRST_COMPLETED)
        finally:
            service.cancel()


@asynccontextmanager
async def serving(moderator: Moderator, settings: Settings) -> AsyncIterator[Running]:
    """A running server.

    On exit health reports NOT_SERVING, new requests get UNAVAILABLE, accepted ones are answered, then it stops.
    Raises ServiceError if it cannot listen.
    """
    address = _free_address(settings.host, settings.port)
    async with Service(moderator, settings.limits) as service:
        server = grpc.aio.server(options=_options(settings))
        server.add_generic_rpc_handlers((handlers(service),))
        health = health_service.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        await health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError:
            raise ServiceError(f"cannot listen on {address}; give another --host or --port") from None
        await server.start()
        listener = asyncio.create_task(server.wait_for_termination())
        try:
            yield Running(_join(settings.host, port), service, server, listener)
        finally:
            await health.enter_graceful_shutdown()
            await asyncio.gather(service.drain(), asyncio.sleep(settings.lame_duck_seconds))
            await server.stop(FLUSH_SECONDS)
            await asyncio.wait([listener])


def _options(settings: Settings) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_receive_message_length", settings.limits.request_bytes),
        ("grpc.so_reuseport", 0),  # otherwise two servers could share a port silently
        # Clients and gateways ping every 10 s or so. By gRPC's defaults (5 minutes, and only during calls) the third
        # ping would close the connection, and with it the calls that wait for the engine.
        ("grpc.http2.min_ping_interval_without_data_ms", round(settings.least_ping_seconds * 1e3)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Calls that Python has not yet seen. gRPC's defaults (1000, 3000) reject a burst with a bare CANCELLED, which
        # says nothing; within these bounds the service answers RESOURCE_EXHAUSTED.
        ("grpc.server.max_pending_requests", 8192),
        ("grpc.server.max_pending_requests_hard_limit", 16384),
    )


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


async def run(moderator: Moderator, settings: Settings, announce: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once. Main thread only.

    announce: called with host:port once requests are answered there. Raises Closed if the batcher or gRPC's own loop
    ends by itself, so that a process without a listener ends. Draining takes no longer than the deadlines of the
    accepted requests, but an engine that hangs keeps the process alive.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        stopping.set()

    async with serving(moderator, settings) as running:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop)
        announce(running.address)
        waits = [asyncio.create_task(stopping.wait()), asyncio.ensure_future(running.stopped())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
    if not stopping.is_set():
        raise Closed("the service stopped because its batcher or its listener failed; restart it")
