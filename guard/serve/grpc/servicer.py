"""The calls of the gRPC service: messages to requests, answers to messages, errors to statuses."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto
from grpc_status import rpc_status

from guard.errors import GuardError, InvalidInput
from guard.serve.core.errors import public
from guard.serve.core.request import Request
from guard.serve.core.service import Answer, Service
from guard.serve.grpc import messages
from guard.serve.grpc.status import to_status
from guard.v1 import moderation_pb2 as pb

SERVICE: str = pb.DESCRIPTOR.services_by_name["ModerationService"].full_name

Context = grpc.aio.ServicerContext[Proto, bytes]
Sent = TypeVar("Sent", bound=Proto)


class Servicer:
    """Answers calls with a service. Errors are raised; `handlers` makes them statuses."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def moderate(self, sent: pb.ModerateRequest, context: Context) -> pb.ModerateResponse:
        (answer,) = await self._judge([sent.conversation], sent.options, context)
        if isinstance(answer, GuardError):
            raise answer
        return pb.ModerateResponse(verdict=messages.verdict_to_proto(answer), client_id=sent.conversation.client_id)

    async def batch_moderate(self, sent: pb.BatchModerateRequest, context: Context) -> pb.BatchModerateResponse:
        answers = await self._judge(sent.conversations, sent.options, context)
        ids = [conversation.client_id for conversation in sent.conversations]
        return pb.BatchModerateResponse(items=map(messages.item_to_proto, answers, ids))

    async def get_info(self, sent: pb.GetInfoRequest, context: Context) -> pb.GetInfoResponse:
        return messages.info_to_proto(await self.service.info(messages.options_from_proto(sent.options)))

    async def _judge(
        self, sent: Sequence[pb.Conversation], options: pb.ModerationOptions, context: Context
    ) -> list[Answer]:
        remaining = context.time_remaining()
        return await self.service.judge(
            Request(
                tuple(map(messages.conversation_from_proto, sent)),
                messages.options_from_proto(options),
                math.inf if remaining is None else remaining,
            )
        )


def handlers(service: Service) -> grpc.GenericRpcHandler[Proto, bytes]:
    """The service for a grpc.aio server; every error of a call becomes the status that `status.py` gives it."""
    servicer = Servicer(service)
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Moderate": _handler(servicer.moderate, pb.ModerateRequest),
            "BatchModerate": _handler(servicer.batch_moderate, pb.BatchModerateRequest),
            "GetInfo": _handler(servicer.get_info, pb.GetInfoRequest),
        },
    )


def _handler(
    method: Callable[[Sent, Context], Awaitable[Proto]], kind: type[Sent]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    # Not the generated registration: grpc.aio answers an error of a handler, or of a malformed message, with the
    # error's text, which it also logs.
    async def call(data: bytes, context: Context) -> bytes:
        try:
            return (await method(_parse(kind, data), context)).SerializeToString()
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            status = rpc_status.to_status(to_status(public(error)))
        # `abort` and not `set_code`, which sends headers first: a client tries again only where none have come.
        await context.abort(status.code, status.details, status.trailing_metadata)

    return grpc.unary_unary_rpc_method_handler(call)


def _parse(kind: type[Sent], data: bytes) -> Sent:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidInput(f"{len(data)} bytes are no {kind.DESCRIPTOR.full_name}; is text in it UTF-8?") from None
