"""The HTTP listener of the service."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from starlette.types import ASGIApp

from guard.serve.config import Settings
from guard.serve.core.keys import Keys
from guard.serve.core.live import Live
from guard.serve.core.rewards import Rewards
from guard.serve.core.service import Service
from guard.serve.http import listener, playground
from guard.serve.http.app import app, operations
from guard.serve.http.listener import Listener
from guard.serve.http.table import TRANSLATORS
from guard.serve.metrics import Metrics
from guard.serve.tls import Certificates

FLUSH_SECONDS = 1  # for responses that a client does not read


async def prepare(service: Service) -> None:
    """Prepares what the wire formats need of the service's own policy, which may take a second."""
    for translator in TRANSLATORS:
        if translator.prepare is not None:
            await asyncio.to_thread(translator.prepare, service.moderator.policy)


def listening(
    live: Live,
    rewards: Rewards,
    metrics: Metrics,
    keys: Keys | None,
    certificates: Certificates | None,
    port: int,
    settings: Settings,
    grpc_port: int,
) -> AbstractAsyncContextManager[Listener]:
    """A listener on the port, with the playground where the settings have it. Raises ServiceError if it cannot listen.

    grpc_port: where the same service answers gRPC.
    """
    pages = playground.pages(grpc_port) if settings.playground else {}
    return _listening(app(live, rewards, metrics, keys, pages), "--rest-port", certificates, port, settings)


def listening_for_operations(
    live: Live, metrics: Metrics, keys: Keys | None, certificates: Certificates | None, port: int, settings: Settings
) -> AbstractAsyncContextManager[Listener]:
    """A listener for metrics and health alone. Raises ServiceError if it cannot listen."""
    return _listening(operations(live, metrics, keys), "--metrics-port", certificates, port, settings)


def _listening(
    of: ASGIApp, option: str, certificates: Certificates | None, port: int, settings: Settings
) -> AbstractAsyncContextManager[Listener]:
    return listener.listening(
        of,
        settings.host,
        port,
        option=option,
        connections=settings.connections,
        head_seconds=settings.head_seconds,
        drain_seconds=FLUSH_SECONDS,
        context=None if certificates is None else certificates.context,
    )
