"""OpenRLHF's `POST /get_reward`: a reward for each query, which is a prompt with its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import WithJsonSchema

from guard.conversation import Message
from guard.errors import InvalidInput
from guard.serve.core.candidate import Candidate, CandidateReward
from guard.serve.http.api.check import error
from guard.serve.http.translator import OpenBody, RewardTranslator

_TEXTS = {"type": "array", "items": {"type": "string"}}


class GetRewardBody(OpenBody):
    """`labels` are the references of the data, which no reward here needs."""

    query: Annotated[list[Any], WithJsonSchema(_TEXTS)]
    prompts: Annotated[list[Any] | None, WithJsonSchema(_TEXTS)] = None
    labels: Any = None


def candidates(sent: GetRewardBody) -> Sequence[Candidate | InvalidInput]:
    prompts = sent.prompts or [""] * len(sent.query)
    if len(prompts) != len(sent.query):
        raise InvalidInput(f"prompts has {len(prompts)} entries for {len(sent.query)} in query")
    return [_candidate(index, *each) for index, each in enumerate(zip(sent.query, prompts, strict=True))]


def _candidate(index: int, query: Any, prompt: Any) -> Candidate | InvalidInput:
    """The prompt, in the policy's own template, is cut off its query. Without one, or null, a query is all answer."""
    if not isinstance(query, str) or not isinstance(prompt, str | None):
        return InvalidInput(f"query[{index}] and prompts[{index}] must be strings")
    return Candidate((Message("user", prompt or ""),), query.removeprefix(prompt or ""))


def reply(sent: GetRewardBody, rewards: Sequence[CandidateReward]) -> dict[str, Any]:
    """`extra_logs` of one sample are joined to those of others, so that each has all components: 0 where one does not
    apply."""
    totals = [each.total for each in rewards]
    names = rewards[0].components if rewards else ()
    logs = {name: [each.components[name].reward or 0.0 for each in rewards] for name in names}
    logs["undecided"] = [float(each.error is not None) for each in rewards]
    errors = [None if each.error is None else error(0, each.error) for each in rewards]
    return {"rewards": totals, "scores": totals, "extra_logs": logs, "errors": errors}


_NUMBERS = {"type": "array", "items": {"type": "number"}}
TRANSLATOR = RewardTranslator(
    path="/get_reward",
    summary="OpenRLHF's remote reward model",
    body=GetRewardBody,
    candidates=candidates,
    reply=reply,
    error=error,
    response={
        "type": "object",
        "properties": {
            "rewards": _NUMBERS,
            "scores": _NUMBERS,
            "extra_logs": {"type": "object", "additionalProperties": _NUMBERS},
            "errors": {"type": "array", "items": {"type": ["object", "null"]}},
        },
        "required": ["rewards", "scores", "extra_logs", "errors"],
    },
    statuses={},
)
