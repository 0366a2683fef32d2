"""What the answers of a guard mean for a message: it passes, is blocked, could not be judged, or the guard failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guard.chat.options import ChatOptions
from guard.errors import GuardError
from guard.moderator import GuardInfo
from guard.serve.http.api import moderations
from guard.verdict import Outcome, Verdict

Answer = Verdict | GuardError
NOT_WRITTEN = {"type": "error", "code": "not_generated", "message": "no reply was generated, or not to its end"}


@dataclass(frozen=True, slots=True)
class Ruling:
    """The answers on one side, prompt or reply. Raises the first error where it is asked for an outcome."""

    answers: tuple[Answer, ...]

    @property
    def error(self) -> GuardError | None:
        return next((each for each in self.answers if isinstance(each, GuardError)), None)

    @property
    def outcome(self) -> Outcome:
        """UNSAFE before INCOMPLETE before SAFE; raises the guard's error if there is one and nothing is UNSAFE."""
        outcomes = {each.outcome for each in self.answers if isinstance(each, Verdict)}
        if Outcome.UNSAFE in outcomes:
            return Outcome.UNSAFE
        if (error := self.error) is not None:
            raise error
        return Outcome.INCOMPLETE if Outcome.INCOMPLETE in outcomes else Outcome.SAFE

    @property
    def flagged(self) -> tuple[str, ...]:
        """The flagged codes of all answers."""
        found = (code for each in self.answers if isinstance(each, Verdict) for code in each.flagged)
        return tuple(dict.fromkeys(found))

    def field(self, info: GuardInfo | None) -> dict[str, Any]:
        """The `input` or `output` of a completion's `moderation`. info: None where the guard could not say."""
        verdicts = [each for each in self.answers if isinstance(each, Verdict)]
        if info is None or len(verdicts) < len(self.answers):
            return {"type": "error", "code": "moderation_failed", "message": "the guard gave no verdict"}
        if not verdicts:
            return NOT_WRITTEN
        if self.outcome is Outcome.INCOMPLETE:
            return {"type": "error", "code": "incomplete", "message": "a part of it could not be judged"}
        model = model_name(info)
        results = [
            {"type": "moderation_result", "model": model, **moderations.result(each, info.policy)} for each in verdicts
        ]
        return {"type": "moderation_results", "model": model, "results": results}


def message(outcome: Outcome, options: ChatOptions) -> str:
    """The assistant's words in place of what is not shown."""
    return options.refusal if outcome is Outcome.UNSAFE else options.unjudged


def model_name(info: GuardInfo) -> str:
    return f"guard-{info.model[:12]}"
