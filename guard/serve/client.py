"""Clients of the moderation service, blocking and asyncio. They answer with guard's own values and errors.

An error is not a verdict. Whoever must decide anyway fails closed: `is_blocked(answer)` is true of everything that is
not a verdict of SAFE.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import grpc
from google.protobuf.message import Message as Proto

from guard.calibration import Mode
from guard.conversation import Conversation
from guard.errors import GuardError, InvalidInput, ServiceError
from guard.policy import Policy
from guard.serve.grpc import messages
from guard.serve.grpc.messages import ServerInfo
from guard.serve.grpc.status import from_rpc
from guard.serve.limits import Limits
from guard.v1 import moderation_pb2 as pb
from guard.v1.moderation_pb2_grpc import ModerationServiceStub
from guard.verdict import Outcome, Verdict

CHUNK_BYTES = 256 << 10  # of one BatchModerate call: long enough to be cheap, short enough to be answered in seconds
TIMEOUT_S = 30.0
_LIMITS = Limits()
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": pb.DESCRIPTOR.services_by_name["ModerationService"].full_name}],
            "retryPolicy": {  # never of RESOURCE_EXHAUSTED: to try again at once would feed the overload
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 10,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_CHANNEL = (("grpc.service_config", json.dumps(_RETRIES)),)
T = TypeVar("T")


def is_blocked(answer: Verdict | BaseException) -> bool:
    """The fail-closed rule: whether content must be held back. UNSAFE, INCOMPLETE and every error are blocked."""
    return not (isinstance(answer, Verdict) and answer.outcome is Outcome.SAFE)


class _Call(NamedTuple):
    method: str
    request: Proto


# What a client does is written once, as generators: they yield calls, get the responses or errors, and return values.
_Steps = Generator[_Call, Any, T]


def _moderate(conversation: Conversation, options: pb.ModerationOptions) -> _Steps[Verdict]:
    request = pb.ModerateRequest(conversation=messages.conversation_to_proto(conversation), options=options)
    if (size := request.ByteSize()) > _LIMITS.request_bytes:
        raise _too_large(size)
    response = yield _Call("Moderate", request)
    return messages.verdict_from_proto(response.verdict)


def _moderate_batch(
    conversations: Iterable[Conversation], options: pb.ModerationOptions
) -> _Steps[list[Verdict | GuardError]]:
    answers: list[Verdict | GuardError] = []
    for chunk in _chunks(map(messages.conversation_to_proto, conversations)):
        request = pb.BatchModerateRequest(conversations=chunk, options=options)
        try:
            if (size := request.ByteSize()) > _LIMITS.request_bytes:
                raise _too_large(size)
            response = yield _Call("BatchModerate", request)
            if len(response.items) != len(chunk):
                raise ServiceError(f"the server sent {len(response.items)} answers for {len(chunk)} conversations")
        except GuardError as error:
            answers += [error] * len(chunk)
        else:
            answers += map(messages.item_from_proto, response.items)
    return answers


def _info() -> _Steps[ServerInfo]:
    response = yield _Call("GetInfo", pb.GetInfoRequest())
    return messages.info_from_proto(response)


def _chunks(conversations: Iterable[pb.Conversation]) -> Iterator[list[pb.Conversation]]:
    """The conversations in order, cut so that no chunk but one of a single conversation is too large for a call."""
    chunk: list[pb.Conversation] = []
    total = 0
    for conversation in conversations:
        size = conversation.ByteSize()
        if chunk and (total + size > CHUNK_BYTES or len(chunk) == _LIMITS.batch_conversations):
            yield chunk
            chunk, total = [], 0
        chunk.append(conversation)
        total += size
    if chunk:
        yield chunk


def _too_large(size: int) -> InvalidInput:
    return InvalidInput(f"the request has {size} bytes; the service takes {_LIMITS.request_bytes}; send it in parts")


class GuardClient:
    """A blocking client of the server at `target` (host:port). Thread-safe. Use it as a context manager or `close` it.

    timeout_s: for one call, with its retries: up to two, only when the server cannot be reached or is shutting down.
    """

    def __init__(self, target: str, timeout_s: float = TIMEOUT_S) -> None:
        self.target, self.timeout_s = target, timeout_s
        self._channel = grpc.insecure_channel(target, options=_CHANNEL)
        self._stub = ModerationServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> GuardClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def moderate(
        self,
        conversation: Conversation,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> Verdict:
        """The verdict on the last message of the conversation.

        policy: one that the server knows by name, or a value to send along; None: the server's own. mode None: the
        server's. Raises InvalidInput, PolicyError, Overloaded, Closed or EngineError as the server did, ServiceError
        if it cannot be reached or does not answer in time.
        """
        return self._drive(_moderate(conversation, messages.options_to_proto(policy, exclude, mode)))

    def moderate_batch(
        self,
        conversations: Iterable[Conversation],
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        """For each conversation, in order, its verdict or the error that `moderate` would have raised.

        They travel in calls of up to 256 KiB, one after another; a failed call fails the conversations in it.
        """
        return self._drive(_moderate_batch(conversations, messages.options_to_proto(policy, exclude, mode)))

    def info(self) -> ServerInfo:
        """What the server runs and accepts."""
        return self._drive(_info())

    def _drive(self, steps: _Steps[T]) -> T:
        try:
            call = next(steps)
            while True:
                failure, response = None, None
                try:
                    response = getattr(self._stub, call.method)(call.request, timeout=self.timeout_s)
                except grpc.RpcError as error:
                    failure = from_rpc(error, self.target, self.timeout_s)
                call = steps.throw(failure) if failure else steps.send(response)
        except StopIteration as end:
            value: T = end.value
            return value


class AsyncGuardClient:
    """GuardClient for asyncio: the same methods, awaited. Make it and use it in one event loop."""

    def __init__(self, target: str, timeout_s: float = TIMEOUT_S) -> None:
        self.target, self.timeout_s = target, timeout_s
        self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL)
        self._stub = ModerationServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> AsyncGuardClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close(None)

    async def moderate(
        self,
        conversation: Conversation,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> Verdict:
        """See GuardClient.moderate."""
        return await self._drive(_moderate(conversation, messages.options_to_proto(policy, exclude, mode)))

    async def moderate_batch(
        self,
        conversations: Iterable[Conversation],
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        """See GuardClient.moderate_batch."""
        return await self._drive(_moderate_batch(conversations, messages.options_to_proto(policy, exclude, mode)))

    async def info(self) -> ServerInfo:
        """See GuardClient.info."""
        return await self._drive(_info())

    async def _drive(self, steps: _Steps[T]) -> T:
        try:
            call = next(steps)
            while True:
                failure, response = None, None
                try:
                    response = await getattr(self._stub, call.method)(call.request, timeout=self.timeout_s)
                except grpc.RpcError as error:
                    failure = from_rpc(error, self.target, self.timeout_s)
                call = steps.throw(failure) if failure else steps.send(response)
        except StopIteration as end:
            value: T = end.value
            return value
