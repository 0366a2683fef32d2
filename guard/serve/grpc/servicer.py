"""The methods of the gRPC service: messages to requests, answers to messages, errors to statuses."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing

import grpc
from google.protobuf.message import Message as Proto

from guard import policy as policies
from guard.errors import GuardError
from guard.serve.core.request import Options, Request
from guard.serve.core.service import Answer, Service
from guard.serve.core.streams import Streams
from guard.serve.grpc import messages
from guard.serve.grpc.call import Context, Sent, Shared, handler, stream_handler
from guard.serve.grpc.streaming import stream_moderate
from guard.v1 import moderation_pb2 as pb

SERVICE: str = pb.DESCRIPTOR.services_by_name["ModerationService"].full_name


class Servicer:
    """Answers a call with a service. Errors are raised; `handlers` converts them to statuses."""

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

    async def list_policies(self, sent: pb.ListPoliciesRequest, context: Context) -> pb.ListPoliciesResponse:
        known = await self.service.policies()
        return pb.ListPoliciesResponse(policies=[messages.policy_to_proto(policy, name) for name, policy in known])

    async def get_policy(self, sent: pb.GetPolicyRequest, context: Context) -> pb.GetPolicyResponse:
        policy = await self.service.policy(Options(sent.name))
        return pb.GetPolicyResponse(policy=messages.policy_to_proto(policy, sent.name, policies.dump(policy)))

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


def handlers(shared: Shared) -> grpc.GenericRpcHandler[Proto, bytes]:
    """The service's handlers for a grpc.aio server; every error of a call becomes a status (`status.py`)."""

    def unary(
        method: Callable[[Servicer, Sent, Context], Awaitable[Proto]], kind: type[Sent]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def answer(sent: Sent, context: Context) -> Proto:
            with shared.live.use() as service:
                return await method(Servicer(service), sent, context)

        return handler(shared, "moderate", answer, kind)

    streams = Streams()

    async def stream(sent: AsyncIterator[pb.StreamModerateRequest], context: Context) -> AsyncGenerator[Proto, None]:
        with shared.live.use() as service, streams.one_more(service.limits):
            async with aclosing(stream_moderate(service, sent)) as responses:
                async for response in responses:
                    yield response

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Moderate": unary(Servicer.moderate, pb.ModerateRequest),
            "BatchModerate": unary(Servicer.batch_moderate, pb.BatchModerateRequest),
            "StreamModerate": stream_handler(shared, "moderate", stream, pb.StreamModerateRequest),
            "GetInfo": unary(Servicer.get_info, pb.GetInfoRequest),
            "ListPolicies": unary(Servicer.list_policies, pb.ListPoliciesRequest),
            "GetPolicy": unary(Servicer.get_policy, pb.GetPolicyRequest),
        },
    )
