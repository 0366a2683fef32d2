"""NeMo Gym's `POST /verify`: a rollout in, and out again with its reward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from guard.errors import InvalidInput, TooLarge
from guard.serve.core.candidate import Candidate, CandidateReward
from guard.serve.http.api import check, checks
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
    (reward,) = rewards
    told = {
        "reward": reward.total,
        "reward_components": {name: each.reward for name, each in reward.components.items()},
        "undecided": reward.error is not None,
    }
    return {**sent.model_dump(), **told, **({} if reward.error is None else check.error(0, reward.error))}


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
            "reward_components": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
            "undecided": {"type": "boolean"},
            "error": {"type": "string"},
            "kind": {"type": "string"},
        },
        "required": ["reward", "reward_components", "undecided"],
    },
    statuses={TooLarge: 413, InvalidInput: 422},
)
