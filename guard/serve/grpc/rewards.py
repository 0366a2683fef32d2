"""The methods of RewardService: messages to requests, rewards to messages, errors to statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
from google.protobuf.message import Message as Proto

from guard.serve.core.rewards import Rewards
from guard.serve.core.service import Service
from guard.serve.grpc import reward_messages as messages
from guard.serve.grpc.call import Context, Sent, Shared, handler
from guard.v1 import reward_pb2 as pb

SERVICE: str = pb.DESCRIPTOR.services_by_name["RewardService"].full_name


def handlers(shared: Shared, rewards: Rewards) -> grpc.GenericRpcHandler[Proto, bytes]:
    """The handlers of the RewardService, which ask for the scope `moderate`."""

    async def score(service: Service, sent: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        asked = messages.request_from_proto([sent.candidate], sent.options, context.time_remaining())
        (reward,) = await rewards.score(service, asked)
        if reward.error is not None:
            raise reward.error
        return pb.ScoreResponse(reward=messages.reward_to_proto(reward), client_id=sent.candidate.client_id)

    async def batch_score(service: Service, sent: pb.BatchScoreRequest, context: Context) -> pb.BatchScoreResponse:
        asked = messages.request_from_proto(sent.candidates, sent.options, context.time_remaining())
        ids = [candidate.client_id for candidate in sent.candidates]
        return pb.BatchScoreResponse(items=map(messages.item_to_proto, await rewards.score(service, asked), ids))

    async def compare(service: Service, sent: pb.CompareRequest, context: Context) -> pb.CompareResponse:
        asked = messages.compare_from_proto(sent, context.time_remaining())
        return messages.compared_to_proto(await rewards.compare(service, asked))

    def unary(
        method: Callable[[Service, Sent, Context], Awaitable[Proto]], kind: type[Sent]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def answer(sent: Sent, context: Context) -> Proto:
            with shared.live.use() as service:
                return await method(service, sent, context)

        return handler(shared, "moderate", answer, kind)

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Score": unary(score, pb.ScoreRequest),
            "BatchScore": unary(batch_score, pb.BatchScoreRequest),
            "Compare": unary(compare, pb.CompareRequest),
        },
    )
