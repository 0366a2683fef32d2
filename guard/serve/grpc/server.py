"""The gRPC listener: the service with health and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health as health_service
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from guard.errors import ServiceError
from guard.serve.config import Settings
from guard.serve.core.keys import Keys
from guard.serve.core.live import Live
from guard.serve.core.rewards import Rewards
from guard.serve.grpc import admin
from guard.serve.grpc import rewards as reward_service
from guard.serve.grpc.call import Shared
from guard.serve.grpc.servicer import SERVICE, handlers
from guard.serve.grpc.unread import Unread
from guard.serve.tls import Certificates

FLUSH_SECONDS = 1.0  # for responses in flight after the last answer; health watchers are disconnected then
HEALTH_SECONDS = 0.2  # between looks at whether the engine is ready


@dataclass(frozen=True, slots=True)
class Listener:
    """A gRPC server on `port`; `ended` when its own loop has."""

    port: int
    server: grpc.aio.Server
    ended: asyncio.Task[object]
    health: health_service.aio.HealthServicer  # type: ignore[name-defined]

    async def refuse(self) -> None:
        """Health reports NOT_SERVING from now on."""
        await self.health.enter_graceful_shutdown()


@asynccontextmanager
async def listening(
    live: Live,
    rewards: Rewards,
    keys: Keys | None,
    certificates: Certificates | None,
    address: str,
    settings: Settings,
) -> AsyncIterator[Listener]:
    """A listener at host:port. Raises ServiceError if it cannot listen."""
    server = grpc.aio.server(options=_options(settings))
    shared = Shared(live, keys, Unread(settings.unread_bytes))
    server.add_generic_rpc_handlers((handlers(shared), reward_service.handlers(shared, rewards)))
    if keys is not None:
        server.add_generic_rpc_handlers((admin.handlers(shared),))
    health = health_service.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if settings.reflection and not settings.hardened:
        names = [SERVICE, reward_service.SERVICE, reflection.SERVICE_NAME]
        names.append(health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        names += [] if keys is None else [admin.SERVICE]
        reflection.enable_server_reflection(names, server)
    try:
        if certificates is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, certificates.credentials())
    except RuntimeError:
        raise ServiceError(f"cannot listen on {address}; give another --host or --port") from None
    await _tell(health, live.service.ready)
    await server.start()
    ended = asyncio.create_task(server.wait_for_termination())
    telling = asyncio.create_task(_follow(live, health))
    try:
        yield Listener(port, server, ended, health)
    finally:
        telling.cancel()
        await server.stop(FLUSH_SECONDS)
        await asyncio.wait([ended])


async def _follow(live: Live, health: health_service.aio.HealthServicer) -> None:  # type: ignore[name-defined]
    """Lets health report whether the service that is live is ready, until it is cancelled."""
    told = True
    while True:
        await asyncio.sleep(HEALTH_SECONDS)
        if (ready := live.service.ready) != told:
            told = ready
            await _tell(health, ready)


async def _tell(health: health_service.aio.HealthServicer, ready: bool) -> None:  # type: ignore[name-defined]
    statuses = health_pb2.HealthCheckResponse
    for name in ("", SERVICE, reward_service.SERVICE):
        await health.set(name, statuses.SERVING if ready else statuses.NOT_SERVING)


def _options(settings: Settings) -> tuple[tuple[str, int], ...]:
    options = [
        ("grpc.max_receive_message_length", settings.limits.request_bytes),
        ("grpc.so_reuseport", 0),  # otherwise two servers could share a port silently
        # Clients and gateways ping every 10 s or so. By gRPC's defaults (5 minutes, and only during calls) the third
        # ping would close the connection, and with it the calls that wait for the engine.
        ("grpc.http2.min_ping_interval_without_data_ms", round(settings.least_ping_seconds * 1e3)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.server_handshake_timeout_ms", 10_000),
        # Peers that vanished without a word would be held for ever.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.max_connection_idle_ms", 600_000),
        ("grpc.max_allowed_incoming_connections", settings.connections),
        # Calls that were reset count until they have ended here as well, so that resets do not get around the bound.
        ("grpc.max_concurrent_streams", settings.streams),
        # A stream that is not read may send 64 KiB. With probing, its window would grow with what the network carries,
        # to megabytes that lie in this process. A message that is read gets the window that it needs.
        ("grpc.http2.bdp_probe", 0),
        # Calls that Python has not yet seen. gRPC's defaults (1000, 3000) reject a burst with a bare CANCELLED, which
        # says nothing; within these bounds the service answers RESOURCE_EXHAUSTED.
        ("grpc.server.max_pending_requests", 8192),
        ("grpc.server.max_pending_requests_hard_limit", 16384),
    ]
    if settings.connection_age_seconds is not None:
        options.append(("grpc.max_connection_age_ms", round(settings.connection_age_seconds * 1e3)))
        options.append(("grpc.max_connection_age_grace_ms", 3_600_000))
    return tuple(options)
