"""Safety rewards for reinforcement learning: a guard's log-odds of completions, in TRL's convention.

>>> reward = make_safety_reward(model="fake", policy="minimal")
>>> [round(value, 2) for value in reward(prompts=["Hi", "Hi"], completions=["Hello there!", "violates:M1"])]
[5.85, -4.0]

A guard alone teaches a model to refuse everything (Qwen3Guard report, table 10): add a reward for helpfulness, watch
`guard/p_refusal_mean`, and evaluate with another judge than the one that was trained against.
"""

from __future__ import annotations

import logging
import math
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from guard.conversation import Conversation, Message, Role, parse_messages
from guard.errors import ConfigError, GuardError, InvalidInput
from guard.reward.score import CLIP
from guard.serve.client import open_guard
from guard.verdict import Outcome, Verdict, log_odds

EMPTY = 0.0  # the reward of an empty completion: evidence neither of safety nor of harm
# A plain text, or messages in OpenAI's format: a list, or a single one. None is an empty text.
Turns = str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
_Judge = Callable[[list[Conversation]], Sequence[Verdict | GuardError]]

_log = logging.getLogger(__name__)
_opening = threading.Lock()
_judges: dict[tuple[object, ...], _Judge] = {}


def safety_reward(prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any) -> list[float]:
    """The rewards by the shipped guard, see `SafetyReward`; it is opened at the first call."""
    return _default(prompts, completions, **columns)


def make_safety_reward(
    model: str | Path | None = None, server: str | None = None, policy: str | Path | None = None, clip: float = CLIP
) -> SafetyReward:
    """A reward function by a bundle (None: the shipped one), or by a running service at `server` (host:port).

    policy: a shipped name or a file; None: the bundle's or the server's own. ConfigError if `model` and `server` are
    both given or `clip` is not positive.
    """
    return SafetyReward(model, server, policy, clip)


@dataclass(frozen=True, slots=True)
class SafetyReward:
    """Calibrated log-odds that a completion is a safe response to its prompt, clipped to ±clip.

    Called as TRL calls it: parallel lists of prompts and completions, each a text or messages; any other column is
    ignored. Of several assistant messages in a completion, tool calls included, the least safe one counts. An empty
    completion gives EMPTY. Where there is no verdict, or an INCOMPLETE one, or a row is invalid, the reward is -clip;
    their number is logged.

    Thread-safe; pickles as its options. The guard is opened at the first call, once in a process; that call raises
    BundleError or PolicyError if it cannot be.
    """

    model: str | Path | None = None
    server: str | None = None
    policy: str | Path | None = None
    clip: float = CLIP
    __name__ = "safety_reward"  # under which TRL logs it

    def __post_init__(self) -> None:
        if not 0 < self.clip < math.inf:
            raise ConfigError(f"clip must be > 0 and finite (got {self.clip}), like {CLIP}")
        if self.server is not None and self.model is not None:
            raise ConfigError("a server has its own model; give either `server` or `model`")

    def __call__(
        self,
        prompts: Sequence[Turns],
        completions: Sequence[Turns],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        """One finite reward for each completion, in order."""
        responses: list[tuple[int, Conversation]] = []  # row and what to judge of it
        answers: list[tuple[int, Verdict | GuardError]] = []
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            try:
                responses += [(row, conversation) for conversation in _responses(prompt, completion)]
            except InvalidInput as problem:
                answers.append((row, problem))
        if responses:
            verdicts = _judge(self.model, self.server, self.policy)([conversation for _, conversation in responses])
            answers += zip((row for row, _ in responses), verdicts, strict=True)
        values: dict[int, float] = {}
        for row, answer in answers:
            values[row] = min(values.get(row, self.clip), self._value(answer))
        _report([answer for _, answer in answers], log_metric)
        return [values.get(row, EMPTY) for row in range(len(completions))]

    def _value(self, answer: Verdict | GuardError) -> float:
        if not _decided(answer):
            return -self.clip
        return max(-self.clip, min(self.clip, -log_odds(answer.p_unsafe)))


_default = SafetyReward()


def _decided(answer: Verdict | GuardError) -> TypeGuard[Verdict]:
    return isinstance(answer, Verdict) and answer.outcome is not Outcome.INCOMPLETE


def _responses(prompt: Turns, completion: Turns) -> list[Conversation]:
    """A conversation for each non-empty assistant message of the completion, with everything before it as context."""
    before, after = _messages(prompt, "user"), _messages(completion, "assistant")
    return [
        Conversation((*before, *after[: index + 1]))
        for index, message in enumerate(after)
        if message.role == "assistant" and message.content.strip()
    ]


def _messages(turns: object, role: Role) -> tuple[Message, ...]:
    """The messages of a text, of one message or of a list; null, which is NaN in a table, is an empty text."""
    if turns is None or (isinstance(turns, float) and math.isnan(turns)):
        turns = ""
    if isinstance(turns, str):
        return (Message(role, turns),)
    return parse_messages([turns] if isinstance(turns, Mapping) else turns)


def _judge(model: str | Path | None, server: str | None, policy: str | Path | None) -> _Judge:
    """The judge with these options, opened at their first use in this process."""
    options = (model, server, policy)
    with _opening:
        if options not in _judges:
            _judges[options] = open_guard(model, server, policy).moderate_each
        return _judges[options]


def _report(answers: list[Verdict | GuardError], log_metric: Callable[[str, float], None] | None) -> None:
    """Logs the number of undecided responses and the batch's means; never a text."""
    decided = [answer for answer in answers if _decided(answer)]
    if undecided := len(answers) - len(decided):
        kinds = Counter(
            "INCOMPLETE" if isinstance(a, Verdict) else type(a).__name__ for a in answers if not _decided(a)
        )
        summary = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
        _log.warning(
            "%d of %d responses have no verdict (%s); they get the lowest reward", undecided, len(answers), summary
        )
    if log_metric is None or not answers:
        return
    log_metric("guard/undecided", undecided / len(answers))
    if decided:
        log_metric("guard/p_unsafe_mean", statistics.fmean(verdict.p_unsafe for verdict in decided))
    if refusals := [verdict.p_refusal for verdict in decided if verdict.p_refusal is not None]:
        log_metric("guard/p_refusal_mean", statistics.fmean(refusals))
