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
from guard.reward.completion import Turns, is_null, read_rollout, said
from guard.reward.components import WEIGHTS, Components, Reward, check_names

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

    def score(
        self, asked: Sequence[tuple[Turns, Turns]], refusable: Sequence[bool | None] | None = None
    ) -> list[Reward]:
        """The reward of each (prompt, answer), texts or messages, with its components."""
        return self.components.score(asked, refusable) if asked else []

    # -- TRL ------------------------------------------------------------------------------------------------------

    def trl(
        self,
        prompts: Sequence[Turns],
        completions: Sequence[Turns],
        refusable: Sequence[bool | None] | None = None,
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
        the answer is cut out of it. InvalidInput for a body of another shape; a row that cannot be scored, as a query
        that is null, gets the lowest reward."""
        queries, prompts = body.get("query"), body.get("prompts") or ()
        if not isinstance(queries, list):
            raise InvalidInput("`query` must be a list of texts")
        if prompts and len(prompts) != len(queries):
            raise InvalidInput(f"`prompts` has {len(prompts)} entries for {len(queries)} in `query`")
        asked = [
            answer_of(query, prompts[place] or "" if prompts else "") if isinstance(query, str) else None
            for place, query in enumerate(queries)
        ]
        told = iter(self.score([row for row in asked if row is not None]))
        rewards = [self._unreadable() if row is None else next(told) for row in asked]
        totals = [reward.total for reward in rewards]
        names = rewards[0].logs if rewards else ()
        logs = {name: [reward.logs[name] for reward in rewards] for name in names}
        return {"rewards": totals, "scores": totals, "extra_logs": logs}

    def step(self, observation: str, action: str, label: Any = None, **_: Any) -> dict[str, Any]:
        """The step of an episode that one answer ends; OpenRLHF's agents want its `rewards` as a tensor."""
        (reward,) = self.score([(observation or "", action)])
        told = {"rewards": reward.total, "scores": reward.total, "environment_feedback": "", "done": True}
        return told | {"extra_logs": reward.logs}

    # -- verl -----------------------------------------------------------------------------------------------------

    def verl(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any = None,
        extra_info: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> dict[str, float]:
        """`compute_score` of verl, which passes no prompt: it is `extra_info["question"]`, a text or messages.

        verl makes a column of each key, so that every answer has all of them.
        """
        prompt = None if is_null(extra_info) else dict(extra_info or {}).get("question")
        (reward,) = self.score([(prompt, solution_str)])
        return {"score": reward.total, **reward.logs}

    # -- NeMo Gym -------------------------------------------------------------------------------------------------

    def verify(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to NeMo Gym's `POST /verify`: the body again, with `reward` and `reward_components`.

        Components are numbers, 0 where one does not apply. A rollout that cannot be judged has the lowest reward and a
        `failure_kind`; where that is the judge's fault, `mask_sample` leaves it out of training. InvalidInput for a
        body without a prompt or a list of items.
        """
        prompt, output = read_rollout(body)
        try:
            (reward,) = self.score([(prompt, said(output))])
        except InvalidInput:
            reward = self._unreadable()
        told: dict[str, Any] = {"reward": reward.total, "reward_components": reward.numbers}
        if reward.undecided:
            told |= {"mask_sample": not reward.unreadable, "failure_kind": f"guard:{reward.reason}"}
        return {**body, **told}

    def _unreadable(self) -> Reward:
        return self.components.undecided(InvalidInput.__name__)


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
