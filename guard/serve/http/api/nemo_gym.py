"""NeMo Gym's `POST /verify`: a rollout in, and out again with its reward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from guard.errors import InvalidInput, TooLarge
from guard.serve.core.candidate import Candidate, CandidateReward
from guard.serve.http.api import checks
from guard.serve.http.translator import RewardTranslator


class VerifyBody(BaseModel):
    """A rollout of a task, whose other fields are the task's own and are sent back."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    responses_create_params: dict[str, Any]
    response: dict[str, Any]


def candidates(sent: VerifyBody) -> Sequence[Candidate | InvalidInput]:
    if "input" not in sent.responses_create_params:
        raise InvalidInput("responses_create_params.input is missing; it is what the response answers")
    if not isinstance(output := sent.response.get("output"), list):
        raise InvalidInput("response.output must be a list of the items that the model wrote")
    try:
        return [Candidate.of(sent.responses_create_params["input"], "\n".join(_texts(output)))]
    except InvalidInput as problem:
        return [problem]


def _texts(output: Sequence[Any]) -> Iterator[str]:
    """What the model says to the user, as the items of OpenAI's Responses API hold it."""
    for at, item in enumerate(output):
        if not isinstance(item, Mapping):
            raise InvalidInput(f"response.output[{at}] must be an object")
        if item.get("type") != "message":
            continue
        content = item.get("content")
        if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
            raise InvalidInput(f"response.output[{at}].content must be a list of parts")
        for part in content:
            yield str(part.get("text") or part.get("refusal") or "")


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
