"""What holds without a verdict. What then passes is counted, and logged by its kind, since nobody would notice."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Literal, get_args

from guard.conversation import Conversation, Target
from guard.errors import ConfigError, GuardError, PolicyError
from guard.verdict import Outcome, Verdict

log = logging.getLogger("guard.fail_open")
Side = Literal["prompt", "reply"]
OnError = Literal["block", "allow", "raise"]
ON_ERROR: tuple[OnError, ...] = get_args(OnError)


def is_blocked(answer: Verdict | BaseException) -> bool:
    """The fail-closed rule: whether content must be blocked. UNSAFE, INCOMPLETE and every error are."""
    return not (isinstance(answer, Verdict) and answer.outcome is Outcome.SAFE)


def check_on_error(given: str) -> None:
    """ConfigError for what says not what to do when there is no verdict."""
    if given not in ON_ERROR:
        raise ConfigError(f"on_error {given[:40]!r} must be one of {', '.join(ON_ERROR)}")


class FailOpen:
    """`counts`: how often what a side of the conversation sent passed because of an error of this type."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Side, str]] = Counter()

    def passed(self, side: Side, problem: Exception) -> None:
        """Its text, which may repeat that of the conversation, is not logged."""
        kind = type(problem).__name__
        self.counts[side, kind] += 1
        log.warning("a %s passed without a verdict: %s", side, kind)


def blocked_by(problem: GuardError, conversation: Conversation, on_error: OnError, passes: FailOpen) -> bool:
    """Whether a message that has an error in place of a verdict is blocked. Raises the error if it is to be raised, or
    if it is one of the options, which no message would get past."""
    if on_error == "raise" or isinstance(problem, ConfigError | PolicyError):
        raise problem
    if on_error == "allow":
        passes.passed("reply" if conversation.target is Target.RESPONSE else "prompt", problem)
    return on_error == "block"
