"""The methods of the gRPC service: messages to requests, answers to messages, errors to statuses."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto
from grpc_status import rpc_status

from guard import policy as policies
from guard.errors import GuardError, InvalidInput
from guard.serve.core.errors import public
from guard.serve.core.request import Options, Request
from guard.serve.core.service import Answer, Service
from guard.serve.grpc import messages
from guard.serve.grpc.status import to_status
from guard.v1 import moderation_pb2 as pb

SERVICE: str = pb.DESCRIPTOR.services_by_name["ModerationService"].full_name

Context = grpc.aio.ServicerContext[Proto, bytes]
Sent = TypeVar("Sent", bound=Proto)


class Servicer:
    """Answers calls with a service. Errors are raised; `handlers` converts them to statuses."""

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


def handlers(service: Service) -> grpc.GenericRpcHandler[Proto, bytes]:
    """The service's handlers for a grpc.aio server; every error of a call becomes a status (`status.py`)."""
    servicer = Servicer(service)

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Moderate": _handler(service, servicer.moderate, pb.ModerateRequest),
            "BatchModerate": _handler(service, servicer.batch_moderate, pb.BatchModerateRequest),
            "GetInfo": _handler(service, servicer.get_info, pb.GetInfoRequest),
            "ListPolicies": _handler(service, servicer.list_policies, pb.ListPoliciesRequest),
            "GetPolicy": _handler(service, servicer.get_policy, pb.GetPolicyRequest),
        },
    )


def _handler(
    service: Service, method: Callable[[Sent, Context], Awaitable[Proto]], kind: type[Sent]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    name = kind.DESCRIPTOR.name.removesuffix("Request")

    # Not the generated registration: grpc.aio answers an error of a handler, or of a malformed message, with the
    # error's text, which it also logs.
    async def call(data: bytes, context: Context) -> bytes:
        started = time.perf_counter()
        code = "CANCELLED"
        try:
            answer = (await method(_parse(kind, data), context)).SerializeToString()
            code = "OK"
            return answer
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            status = rpc_status.to_status(to_status(public(error)))
            code = status.code.name
        finally:
            service.observer.called(name, code, time.perf_counter() - started)
        # `abort` and not `set_code`, which sends headers first: a client retries only before it receives headers.
        await context.abort(status.code, status.details, status.trailing_metadata)

    return grpc.unary_unary_rpc_method_handler(call)


def _parse(kind: type[Sent], data: bytes) -> Sent:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidInput(
            f"{len(data)} bytes are not a valid {kind.DESCRIPTOR.full_name}; is its text UTF-8?"
        ) from None
