"""Rewards for RL frameworks: one function for each of their conventions, all by the same named components.

>>> reward = make_reward(model="fake", policy="minimal")
>>> [round(value, 2) for value in reward.trl(["Hi", "Hi"], ["Hello there!", "violates:M1"])]
[5.85, -4.0]

See docs/rewards.md for the configuration of each framework.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from guard.errors import ConfigError, InvalidInput
from guard.reward.completion import Turns
from guard.reward.components import WEIGHTS, Components, Reward, check_names, plain

if TYPE_CHECKING:
    from guard.reward.scorer import Scorer

_log = logging.getLogger(__name__)
_opening = threading.Lock()


def make_reward(
    model: str | Path | None = None,
    server: str | None = None,
    policy: str | Path | None = None,
    helpful: str | Path | None = None,
    weights: Mapping[str, float] = WEIGHTS,
    others: Mapping[str, str | Path] = MappingProxyType({}),
    lowest: float | None = None,
) -> RewardFunction:
    """A reward by a guard (a bundle, None: the shipped one; or a service) and, if given, a reward model's folder.

    others: folders of more reward models, by the names of their components. lowest: the reward of what cannot be
    judged; None: the lowest sum that the weights allow (see `Components`). All are opened at the first call, once in a
    process. ConfigError for a reserved name, or if `model` and `server` are both given.
    """
    check_names(others)
    if server is not None and model is not None:
        raise ConfigError("a server has its own model; give either `server` or `model`")
    return RewardFunction(
        model, server, policy, helpful, tuple(sorted(weights.items())), tuple(sorted(others.items())), lowest
    )


@dataclass(frozen=True, slots=True)
class RewardFunction:
    """Pickles as its options. See `make_reward`."""

    model: str | Path | None = None
    server: str | None = None
    policy: str | Path | None = None
    helpful: str | Path | None = None
    weights: tuple[tuple[str, float], ...] = field(default_factory=lambda: tuple(sorted(WEIGHTS.items())))
    others: tuple[tuple[str, str | Path], ...] = ()
    lowest: float | None = None

    @property
    def components(self) -> Components:
        """What it asks, opened if it was not yet."""
        with _opening:
            return _components(
                self.model, self.server, self.policy, self.helpful, self.weights, self.others, self.lowest
            )

    def score(self, asked: Sequence[tuple[Turns, Turns]], refusable: Sequence[bool] | None = None) -> list[Reward]:
        """The reward of each (prompt, answer), texts or messages, with its components."""
        return self.components.score(asked, refusable) if asked else []

    # -- TRL ------------------------------------------------------------------------------------------------------

    def trl(
        self,
        prompts: Sequence[Turns],
        completions: Sequence[Turns],
        refusable: Sequence[bool] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        """A `reward_funcs` of TRL: other columns, `environments` and `trainer_state` among them, are ignored."""
        rewards = self.score(list(zip(prompts, completions, strict=True)), refusable)
        _report(rewards, log_metric)
        return [reward.total for reward in rewards]

    async def trl_async(self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any) -> list[float]:
        """The same for an asynchronous trainer, in a thread of its own."""
        return await asyncio.to_thread(lambda: self.trl(prompts, completions, **columns))

    # -- OpenRLHF -------------------------------------------------------------------------------------------------

    def openrlhf(self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any] = ()) -> dict[str, Any]:
        """`reward_func` of OpenRLHF's `.py` mode: tensors of `rewards` and `scores`, and what is logged."""
        import torch

        told = self.get_reward({"query": list(queries), "prompts": list(prompts), "labels": list(labels)})
        return {
            "rewards": torch.tensor(told["rewards"]),
            "scores": torch.tensor(told["scores"]),
            "extra_logs": {name: torch.tensor(values) for name, values in told["extra_logs"].items()},
        }

    def get_reward(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to OpenRLHF's `POST /get_reward`. `query` holds the prompt in the policy's own template, by which
        the answer is cut out of it. InvalidInput for a body of another shape; a row that cannot be scored gets the
        lowest reward."""
        queries, prompts = body.get("query"), body.get("prompts") or ()
        if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
            raise InvalidInput("`query` must be a list of texts")
        if prompts and len(prompts) != len(queries):
            raise InvalidInput(f"`prompts` has {len(prompts)} entries for {len(queries)} in `query`")
        asked = [answer_of(query, prompts[place] if prompts else "") for place, query in enumerate(queries)]
        rewards = self.score(asked)
        totals = [reward.total for reward in rewards]
        parts = [_numbers(reward) for reward in rewards]
        logs = {name: [each[name] for each in parts] for name in (parts[0] if parts else ())}
        return {"rewards": totals, "scores": totals, "extra_logs": logs}

    def step(self, observation: str, action: str, label: Any = None, **_: Any) -> dict[str, Any]:
        """The step of an episode that one answer ends; OpenRLHF's agents want its `rewards` as a tensor."""
        (reward,) = self.score([(observation or "", action)])
        told = {"rewards": reward.total, "scores": reward.total, "environment_feedback": "", "done": True}
        return told | {"extra_logs": _numbers(reward)}

    # -- verl -----------------------------------------------------------------------------------------------------

    def verl(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any = None,
        extra_info: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> dict[str, float]:
        """`compute_score` of verl. The prompt is `extra_info["question"]`, because verl passes none."""
        (reward,) = self.score([((extra_info or {}).get("question") or "", solution_str)])
        return {"score": reward.total, **_numbers(reward)}

    # -- NeMo Gym -------------------------------------------------------------------------------------------------

    def verify(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to NeMo Gym's `POST /verify`: the body again, with `reward` and `reward_components`."""
        try:
            asked = (body["responses_create_params"]["input"], _output_text(body["response"]))
        except (KeyError, TypeError):
            raise InvalidInput("a body must hold `responses_create_params.input` and `response.output`") from None
        (reward,) = self.score([asked])
        return {**body, **plain(reward)}


@cache
def _components(
    model: str | Path | None,
    server: str | None,
    policy: str | Path | None,
    helpful: str | Path | None,
    weights: tuple[tuple[str, float], ...],
    others: tuple[tuple[str, str | Path], ...],
    lowest: float | None,
) -> Components:
    from guard.serve.client import open_guard

    folders = {**({} if helpful is None else {"helpful": helpful}), **dict(others)}
    scorers: dict[str, Scorer] = {}
    if folders:
        from guard.reward.open import open_scorers

        scorers = dict(zip(folders, open_scorers(list(folders.values())), strict=True))
    guard = open_guard(model, server, policy)
    return Components(guard, scorers.pop("helpful", None), dict(weights), scorers, lowest)


def answer_of(query: str, prompt: str) -> tuple[str, str]:
    """(prompt, answer) of a text that holds both. A query that does not start with its prompt is all answer."""
    return (prompt, query[len(prompt) :]) if prompt and query.startswith(prompt) else (prompt, query)


def _numbers(reward: Reward) -> dict[str, float]:
    """The components, 0 where one does not apply, and `undecided`: trainers join those of a batch by name, so that each
    needs all."""
    known = {name: value or 0.0 for name, value in reward.components.items()}
    return {**known, "undecided": float(reward.undecided)}


def _output_text(response: Mapping[str, Any]) -> str:
    """The text of a response of OpenAI's Responses API."""
    parts = [part for item in response["output"] if item.get("type") == "message" for part in item["content"]]
    return "\n".join(str(part.get("text") or part.get("refusal") or "") for part in parts)


def _report(rewards: Sequence[Reward], log_metric: Callable[[str, float], None] | None) -> None:
    """Logs how many answers could not be judged, and the means of the others; never a text."""
    decided = [reward for reward in rewards if not reward.undecided]
    if undecided := len(rewards) - len(decided):
        kinds = Counter(reward.reason for reward in rewards if reward.undecided)
        told = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
        _log.warning(
            "%d of %d answers cannot be judged (%s); they get the lowest reward", undecided, len(rewards), told
        )
    if log_metric is None or not rewards:
        return
    log_metric("guard/undecided", undecided / len(rewards))
    for name in rewards[0].components:
        if known := [value for r in decided if (value := r.components.get(name)) is not None]:
            log_metric(f"guard/{name}", statistics.fmean(known))
