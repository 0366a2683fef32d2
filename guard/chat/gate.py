"""The decisions between a request and its answer, as pure functions that the proxy and both wrappers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from guard.chat import completion as completions
from guard.chat.options import ChatOptions
from guard.chat.prompt import Prompt
from guard.chat.ruling import NOT_WRITTEN, Answer, Ruling, message
from guard.moderator import GuardInfo
from guard.verdict import Outcome


@dataclass(frozen=True, slots=True)
class Gate:
    """What is in force for one request: the options, and what its prompt was found to be."""

    prompt: Prompt
    options: ChatOptions
    info: GuardInfo | None
    asked: Ruling

    @property
    def refused(self) -> Outcome | None:
        """Why the prompt must not be forwarded; None: it may. Raises the guard's error, unless all passes anyway."""
        if self.options.release == "observe":
            return None
        outcome = self.asked.outcome
        return None if outcome is Outcome.SAFE else outcome

    def refusal(self, outcome: Outcome, model: str) -> dict[str, Any]:
        """The completion in place of an answer to a prompt that is not forwarded."""
        made = completions.refusal(model, self.prompt.choices, message(outcome, self.options))
        return {**made, "moderation": self.moderation(())}

    def answered(self, completion: Mapping[str, Any], replies: Sequence[Answer | None]) -> dict[str, Any]:
        """The completion with the choices that may be shown. replies: the answer on each, None where it is empty.

        Raises the guard's error, unless all passes anyway.
        """
        made = dict(completion)
        if self.options.release == "hold":
            made = completions.only_judged(completion)
            for place, answer in enumerate(replies):
                outcome = Outcome.SAFE if answer is None else Ruling((answer,)).outcome
                if outcome is not Outcome.SAFE:
                    words = message(outcome, self.options)
                    made["choices"][place] = completions.refused(made["choices"][place], words)
        return {**made, "moderation": self.moderation([each for each in replies if each is not None])}

    def moderation(self, replies: Sequence[Answer]) -> dict[str, Any]:
        """The `moderation` field of a completion."""
        written = Ruling(tuple(replies)).field(self.info) if replies else NOT_WRITTEN
        return {"input": self.asked.field(self.info), "output": written}

    def chunk(self, head: Mapping[str, Any], replies: Sequence[Answer]) -> dict[str, Any]:
        """The chunk with that field, after all others."""
        return {**head, "choices": [], "moderation": self.moderation(replies)}


def gate(prompt: Prompt, options: ChatOptions, info: GuardInfo | None, answers: Sequence[Answer]) -> Gate:
    """The gate of a request whose prompt got these answers. Its own wish to block counts, its wish not to does not."""
    if prompt.blocking and options.release == "observe":
        options = replace(options, stream=replace(options.stream, release="hold"))
    return Gate(prompt, options, info, Ruling(tuple(answers)))
