"""Conversions between the messages of RewardService and values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from guard.errors import GuardError, InvalidInput
from guard.reward.score import Comparison, RewardScore
from guard.serve.core.candidate import Candidate, CandidateReward, Compared, CompareRequest, Component, RewardRequest
from guard.serve.grpc.messages import (
    CLIENT_ID_CHARACTERS,
    message_to_proto,
    messages_from_proto,
    options_from_proto,
)
from guard.serve.grpc.status import from_status, to_status
from guard.v1 import moderation_pb2
from guard.v1 import reward_pb2 as pb


def candidate_to_proto(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(
        prompt=map(message_to_proto, candidate.prompt),
        response=candidate.response,
        reference=candidate.reference,
        refusable=candidate.refusable,
    )


def candidate_from_proto(sent: pb.Candidate) -> Candidate | InvalidInput:
    """The candidate of a message, or the error if it is invalid."""
    if len(sent.client_id) > CLIENT_ID_CHARACTERS:
        return InvalidInput(f"client_id has {len(sent.client_id)} characters, must be <= {CLIENT_ID_CHARACTERS}")
    try:
        prompt = messages_from_proto(sent.prompt, "prompt")
        return Candidate(prompt, sent.response, sent.reference if sent.HasField("reference") else None, sent.refusable)
    except InvalidInput as error:
        return error


def options_to_proto(components: Sequence[str], moderation: moderation_pb2.ModerationOptions) -> pb.RewardOptions:
    return pb.RewardOptions(components=components, moderation=moderation)


def request_from_proto(sent: Sequence[pb.Candidate], options: pb.RewardOptions, seconds: float | None) -> RewardRequest:
    """seconds: what is left of the call's deadline, None if it has none. Raises InvalidInput for an unknown mode."""
    return RewardRequest(
        tuple(map(candidate_from_proto, sent)),
        tuple(options.components),
        options_from_proto(options.moderation),
        math.inf if seconds is None else seconds,
    )


def compare_to_proto(
    first: Candidate, second: str, component: str | None, moderation: moderation_pb2.ModerationOptions
) -> pb.CompareRequest:
    return pb.CompareRequest(
        prompt=map(message_to_proto, first.prompt),
        first=first.response,
        second=second,
        component=component or "",
        moderation=moderation,
    )


def compare_from_proto(sent: pb.CompareRequest, seconds: float | None) -> CompareRequest:
    """Raises InvalidInput."""
    return CompareRequest(
        Candidate(messages_from_proto(sent.prompt, "prompt"), sent.first),
        sent.second,
        sent.component or None,
        options_from_proto(sent.moderation),
        math.inf if seconds is None else seconds,
    )


def reward_to_proto(reward: CandidateReward) -> pb.Reward:
    return pb.Reward(
        total=reward.total,
        components=[
            pb.RewardComponent(
                name=name,
                score=None if each.score is None else _score_to_proto(each.score),
                weight=each.weight,
                model_digest=each.model,
            )
            for name, each in reward.components.items()
        ],
    )


def reward_from_proto(sent: pb.Reward, error: GuardError | None = None) -> CandidateReward:
    components = {
        each.name: Component(
            _score_from_proto(each.score) if each.HasField("score") else None, each.weight, each.model_digest
        )
        for each in sent.components
    }
    return CandidateReward(sent.total, components, error)


def item_to_proto(reward: CandidateReward, client_id: str) -> pb.BatchScoreItem:
    error = None if reward.error is None else to_status(reward.error)
    return pb.BatchScoreItem(reward=reward_to_proto(reward), error=error, client_id=client_id)


def item_from_proto(sent: pb.BatchScoreItem) -> CandidateReward:
    return reward_from_proto(sent.reward, from_status(sent.error) if sent.HasField("error") else None)


def compared_to_proto(compared: Compared) -> pb.CompareResponse:
    comparison = compared.comparison
    return pb.CompareResponse(
        probability=comparison.p,
        gap=comparison.gap,
        label_mass=comparison.mass,
        coverage=comparison.coverage,
        rationale=comparison.rationale,
        component=compared.component,
        model_digest=compared.model,
    )


def comparison_from_proto(sent: pb.CompareResponse) -> Comparison:
    return Comparison(sent.probability, sent.gap, sent.label_mass, sent.coverage, sent.rationale)


def _score_to_proto(score: RewardScore) -> pb.RewardScore:
    return pb.RewardScore(
        reward=score.reward,
        probability=score.p,
        raw=score.raw,
        label_mass=score.mass,
        coverage=score.coverage,
        rationale=score.rationale,
        attributes=dict(score.attributes),
    )


def _score_from_proto(sent: pb.RewardScore) -> RewardScore:
    return RewardScore(
        sent.reward, sent.probability, sent.raw, sent.label_mass, sent.coverage, sent.rationale, dict(sent.attributes)
    )
