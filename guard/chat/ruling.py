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
        """The `input` or `output` of a completion's `moderation`.

        info: of the guard, whose policy says what its codes are among OpenAI's names; None where it could not say. Of
        a verdict under another policy, because the guard has loaded one since, there are the codes alone.
        """
        verdicts = [each for each in self.answers if isinstance(each, Verdict)]
        if len(verdicts) < len(self.answers):
            return {"type": "error", "code": "moderation_failed", "message": "the guard gave no verdict"}
        if not verdicts:
            return NOT_WRITTEN
        if self.outcome is Outcome.INCOMPLETE:
            return {"type": "error", "code": "incomplete", "message": "a part of it could not be judged"}
        results = [{"type": "moderation_result", "model": model_name(each), **_result(each, info)} for each in verdicts]
        return {"type": "moderation_results", "model": model_name(verdicts[-1]), "results": results}


def _result(verdict: Verdict, info: GuardInfo | None) -> dict[str, Any]:
    known = info is not None and info.policy.digest == verdict.policy
    return moderations.result(verdict, info.policy if info is not None and known else None)


def words(answer: Answer, options: ChatOptions) -> str:
    """The assistant's words in place of what is not shown."""
    unsafe = isinstance(answer, Verdict) and answer.outcome is Outcome.UNSAFE
    return options.refusal if unsafe else options.unjudged


def model_name(verdict: Verdict) -> str:
    """The model that gave a verdict."""
    return f"guard-{verdict.model[:12]}"
