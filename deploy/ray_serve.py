"""The service on Ray Serve: replicas behind Ray's gRPC proxy. guard's clients call it as they call `guard serve`.

    pip install -c constraints.txt '.[rest,ray]' 'ray[serve]'
    python deploy/ray_serve.py --replicas 2 --port 9000 [--config serve.yaml]

A replica is one process with a queue and an engine of its own. Of the settings it uses those that choose the model, the
limits, the keys and how exact scores are; where it listens, and TLS, are Ray's. Ray's proxy does not pass on a caller's
deadline: `limits.request_seconds` bounds a call, and a caller that goes leaves the queue.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import ray
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_status import rpc_status
from ray import serve
from ray.serve.config import gRPCOptions
from ray.serve.grpc_util import RayServegRPCContext

from guard.errors import GuardError
from guard.moderator import open_moderator
from guard.serve import config as configuration
from guard.serve.config import Settings
from guard.serve.core.errors import public
from guard.serve.core.keys import Keys
from guard.serve.core.origin import admitted
from guard.serve.core.service import Service
from guard.serve.grpc.servicer import Servicer
from guard.serve.grpc.status import to_status
from guard.serve.grpc.streaming import stream_moderate
from guard.v1 import moderation_pb2 as pb

ADD_TO_SERVER = "guard.v1.moderation_pb2_grpc.add_ModerationServiceServicer_to_server"


class _Context:
    """What the servicer asks a context for, of a call that came through Ray."""

    def time_remaining(self) -> None:
        """Unknown, see above."""


CONTEXT: Any = _Context()


def describe(error: Exception, call: RayServegRPCContext) -> GuardError:
    """Tells the caller of the error as `guard serve` does; returns what may be logged of it."""
    known = public(error)
    status = rpc_status.to_status(to_status(known))
    call.set_code(status.code)
    call.set_details(status.details)
    call.set_trailing_metadata(list(status.trailing_metadata))
    return known


@serve.deployment
class Guard:
    """A replica: the methods of guard.v1.ModerationService, by their names."""

    async def __init__(self, settings: Settings) -> None:
        self._keys = None if settings.api_keys is None else Keys(settings.api_keys)
        self._open = AsyncExitStack()
        moderator = open_moderator(settings.model, settings.policy, settings.mode, settings.threads)
        self._open.callback(moderator.close)
        self._service = await self._open.enter_async_context(
            Service(moderator, settings.limits, scores=settings.scores)
        )
        self._servicer = Servicer(self._service)

    async def __del__(self) -> None:
        await self._open.aclose()  # the accepted calls are answered

    async def check_health(self) -> None:
        if not self._service.ready:
            raise RuntimeError("the engine does not answer")

    def _admitted(self, call: RayServegRPCContext) -> AbstractContextManager[None]:
        sent = {key: value for key, value in call.invocation_metadata() if isinstance(value, str)}
        return admitted(self._keys, sent, call.peer().rpartition(":")[0], "moderate")

    async def _answer(
        self, method: Callable[[Any, Any], Awaitable[Message]], sent: Message, call: RayServegRPCContext
    ) -> Message:
        try:
            with self._admitted(call):
                return await method(sent, CONTEXT)
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            describe(error, call)
            return Empty()  # and not the error: of one that is raised Ray sends no details, such as when to try again

    async def Moderate(self, sent: pb.ModerateRequest, grpc_context: RayServegRPCContext) -> Message:  # noqa: N802
        return await self._answer(self._servicer.moderate, sent, grpc_context)

    async def BatchModerate(self, sent: pb.BatchModerateRequest, grpc_context: RayServegRPCContext) -> Message:  # noqa: N802
        return await self._answer(self._servicer.batch_moderate, sent, grpc_context)

    async def GetInfo(self, sent: pb.GetInfoRequest, grpc_context: RayServegRPCContext) -> Message:  # noqa: N802
        return await self._answer(self._servicer.get_info, sent, grpc_context)

    async def ListPolicies(self, sent: pb.ListPoliciesRequest, grpc_context: RayServegRPCContext) -> Message:  # noqa: N802
        return await self._answer(self._servicer.list_policies, sent, grpc_context)

    async def GetPolicy(self, sent: pb.GetPolicyRequest, grpc_context: RayServegRPCContext) -> Message:  # noqa: N802
        return await self._answer(self._servicer.get_policy, sent, grpc_context)

    async def StreamModerate(  # noqa: N802
        self, sent: AsyncIterator[pb.StreamModerateRequest], grpc_context: RayServegRPCContext
    ) -> AsyncIterator[Message]:
        try:
            with self._admitted(grpc_context):
                async for response in stream_moderate(self._service, sent):
                    yield response
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            raise describe(error, grpc_context) from None


def run(settings: Settings, replicas: int, port: int, http_port: int) -> None:
    """Starts the proxy and the replicas, in the Ray that runs here or in one of this machine alone."""
    if not ray.is_initialized():
        ray.init(include_dashboard=False, logging_level="warning")
    serve.start(
        http_options={"host": "127.0.0.1", "port": http_port},
        grpc_options=gRPCOptions(
            port=port,
            grpc_servicer_functions=[ADD_TO_SERVER],
            request_timeout_s=settings.limits.request_seconds + 5,
            enable_reflection=settings.reflection and not settings.hardened,
        ),
    )
    deployment = Guard.options(
        num_replicas=replicas,
        # Above what Ray sends, calls wait in its proxy without a bound or an order; guard's own queue has both.
        max_ongoing_requests=settings.limits.queue_windows,
        ray_actor_options={"num_cpus": settings.threads or 1},
        graceful_shutdown_timeout_s=settings.limits.request_seconds + 5,
    )
    # Without a route Ray's proxy would find the application over gRPC neither. Over HTTP there is nothing at it.
    serve.run(deployment.bind(settings), name="guard", route_prefix="/guard")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--http-port", type=int, default=8000, help="of Ray's HTTP proxy, which has nothing of guard's")
    given = parser.parse_args()
    settings = configuration.settings(given.config, configuration.environment(os.environ))
    run(settings, given.replicas, given.port, given.http_port)
    print(f"guard serving on 127.0.0.1:{given.port}", flush=True)  # noqa: T201
    ending = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: ending.set())
    ending.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
