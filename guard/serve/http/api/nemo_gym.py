"""NeMo Gym's `POST /verify`: a rollout in, and out again with its reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from guard.errors import InvalidInput, TooLarge
from guard.reward.completion import read_rollout, said
from guard.serve.core.candidate import Candidate, CandidateReward
from guard.serve.http.api import checks
from guard.serve.http.translator import RewardTranslator


class VerifyBody(BaseModel):
    """A rollout of a task, whose other fields are the task's own and are sent back."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    responses_create_params: dict[str, Any]
    response: dict[str, Any]


def candidates(sent: VerifyBody) -> Sequence[Candidate | InvalidInput]:
    prompt, output = read_rollout(sent.model_dump())
    try:
        return [Candidate.of(prompt, said(output))]
    except InvalidInput as problem:
        return [problem]


def reply(sent: VerifyBody, rewards: Sequence[CandidateReward]) -> dict[str, Any]:
    """`reward_components` are numbers and the same for each task: 0 where one does not apply. A sample is masked where
    the judge failed; where nobody could judge what the model wrote, it counts, with the lowest reward."""
    (reward,) = rewards
    told: dict[str, Any] = {
        "reward": reward.total,
        "reward_components": {name: each.reward or 0.0 for name, each in reward.components.items()},
    }
    if reward.error is not None:
        told["mask_sample"] = not isinstance(reward.error, InvalidInput)
        told["failure_kind"] = f"guard:{type(reward.error).__name__}"
        told["failure_reason"] = str(reward.error)
    return {**sent.model_dump(), **told}


TRANSLATOR = RewardTranslator(
    path="/verify",
    summary="NeMo Gym's verification of a rollout",
    body=VerifyBody,
    candidates=candidates,
    reply=reply,
    error=checks.error,
    response={
        "type": "object",
        "properties": {
            "reward": {"type": "number"},
            "reward_components": {"type": "object", "additionalProperties": {"type": "number"}},
            "mask_sample": {"type": "boolean"},
            "failure_kind": {"type": "string"},
            "failure_reason": {"type": "string"},
        },
        "required": ["reward", "reward_components"],
    },
    statuses={TooLarge: 413, InvalidInput: 422},
)
