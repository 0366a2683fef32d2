"""The three calls of the service: validate and bound, reserve, tokenise, batch, conclude."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from importlib.metadata import version
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto

from guard.batcher import Batcher
from guard.calibration import Mode
from guard.conversation import Conversation
from guard.errors import DISTRIBUTION, InvalidInput, TooLarge
from guard.moderator import Moderator
from guard.moderator.steps import Finished, Scored, Steps, advance, run_async
from guard.prompts.window import Score, Window
from guard.serve.grpc import messages
from guard.serve.grpc.status import DETAILS_KEY, code_of, to_status
from guard.serve.limits import BYTES_PER_TOKEN, Limits
from guard.serve.policies import Policies
from guard.v1 import moderation_pb2 as pb
from guard.verdict import Verdict

SERVICE: str = pb.DESCRIPTOR.services_by_name["ModerationService"].full_name
INLINE_BYTES = 2048  # less than this is tokenised on the event loop: the way to a thread and back would cost as much

Answer = Verdict | Exception
Context = grpc.aio.ServicerContext[Proto, bytes]
Request = TypeVar("Request", bound=Proto)


class Servicer:
    """Judges requests with a moderator through a batcher. Errors are raised; `handlers` makes them statuses.

    readers: where long texts and sent policies are read, off the event loop.
    """

    def __init__(
        self, moderator: Moderator, batcher: Batcher[Window, Score], limits: Limits, readers: Executor
    ) -> None:
        self.moderator, self.batcher, self.limits, self.readers = moderator, batcher, limits, readers
        self.policies = Policies(moderator.policy, limits)

    async def moderate(self, request: pb.ModerateRequest, context: Context) -> pb.ModerateResponse:
        (answer,) = await self._judge([request.conversation], request.options, context)
        if isinstance(answer, Exception):
            raise answer
        return pb.ModerateResponse(verdict=messages.verdict_to_proto(answer), client_id=request.conversation.client_id)

    async def batch_moderate(self, request: pb.BatchModerateRequest, context: Context) -> pb.BatchModerateResponse:
        sent = request.conversations
        if len(sent) > self.limits.batch_conversations:
            raise TooLarge(
                f"the batch has {len(sent)} conversations; this server takes {self.limits.batch_conversations}"
            )
        answers = await self._judge(sent, request.options, context)
        return pb.BatchModerateResponse(
            items=[messages.item_to_proto(answer, c.client_id) for answer, c in zip(answers, sent, strict=True)]
        )

    async def get_info(self, request: pb.GetInfoRequest, context: Context) -> pb.GetInfoResponse:
        mode = messages.mode_from_proto(request.options.mode) or self.moderator.mode
        loop = asyncio.get_running_loop()
        policy = await loop.run_in_executor(self.readers, self.policies.of, request.options)
        info = self.moderator.info_of(policy, mode)
        return messages.info_to_proto(
            messages.ServerInfo(
                info.model, info.kind, policy, mode, info.thresholds, version(DISTRIBUTION), self.limits
            )
        )

    async def _judge(
        self, sent: Sequence[pb.Conversation], options: pb.ModerationOptions, context: Context
    ) -> list[Answer]:
        """A verdict, or the error of its own, for each conversation. What concerns them all is raised."""
        loop = asyncio.get_running_loop()
        remaining = context.time_remaining()
        allowed = min(self.limits.request_seconds, math.inf if remaining is None else remaining)
        deadline = loop.time() + allowed
        mode = messages.mode_from_proto(options.mode)
        read = [self._read(conversation) for conversation in sent]
        sizes = [one.ByteSize() for one, good in zip(sent, read, strict=True) if isinstance(good, Conversation)]
        if not sizes:
            return [error for error in read if isinstance(error, InvalidInput)]
        good = [conversation for conversation in read if isinstance(conversation, Conversation)]
        with self.batcher.reserve(len(sizes), sum(sizes) // BYTES_PER_TOKEN) as slot:

            async def ask(windows: Sequence[Window]) -> list[Scored]:
                done = await slot.answer(windows, deadline)
                return [Scored(one.answer, one.queue_ms, one.work_ms) for one in done]

            if sum(sizes) < INLINE_BYTES and options.WhichOneof("policy") is None:
                steps, asked = self._begin(good, options, mode)
            else:
                steps, asked = await loop.run_in_executor(self.readers, self._begin, good, options, mode)
            judged = await run_async(steps, asked, ask)
        answers = iter(judged)
        return [next(answers) if isinstance(one, Conversation) else one for one in read]

    def _read(self, sent: pb.Conversation) -> Conversation | InvalidInput:
        try:
            return messages.conversation_from_proto(sent, self.limits)
        except InvalidInput as error:
            return error

    def _begin(
        self, conversations: Sequence[Conversation], options: pb.ModerationOptions, mode: Mode | None
    ) -> tuple[Steps[list[Answer]], Sequence[Window] | Finished[list[Answer]]]:
        """The judging of the conversations, as far as it goes without a score."""
        steps = self.moderator.judge_each(conversations, self.policies.of(options), mode=mode)
        return steps, advance(steps)


def handlers(servicer: Servicer) -> grpc.GenericRpcHandler[Proto, bytes]:
    """The service for a grpc.aio server; every error of a call becomes the status that `status.py` gives it."""
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Moderate": _handler(servicer.moderate, pb.ModerateRequest),
            "BatchModerate": _handler(servicer.batch_moderate, pb.BatchModerateRequest),
            "GetInfo": _handler(servicer.get_info, pb.GetInfoRequest),
        },
    )


def _handler(
    method: Callable[[Request, Context], Awaitable[Proto]], kind: type[Request]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    # Not the generated registration: grpc.aio answers an error of a handler, or of a malformed message, with the
    # error's text, which it also logs; and a CancelledError from inside a handler leaves the caller without an answer.
    async def call(data: bytes, context: Context) -> bytes:
        error: BaseException
        try:
            return (await method(_parse(kind, data), context)).SerializeToString()
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the caller is gone
                raise
            error = cancelled
        except Exception as problem:  # noqa: BLE001 - the caller is told, the log too
            error = problem
        status = to_status(error)
        # `abort` and not `set_code`, which sends headers first: a client tries again only where none have come.
        await context.abort(code_of(status), status.message, ((DETAILS_KEY, status.SerializeToString()),))

    return grpc.unary_unary_rpc_method_handler(call)


def _parse(kind: type[Request], data: bytes) -> Request:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidInput(f"{len(data)} bytes are no {kind.DESCRIPTOR.full_name}; is text in it UTF-8?") from None
