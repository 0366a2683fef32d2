"""The decisions between a request and its answer, as pure functions that the proxy and both wrappers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from guard.chat import completion as completions
from guard.chat import prompt as prompts
from guard.chat.chunks import ChunkStream
from guard.chat.completion import UpstreamError
from guard.chat.options import ChatOptions
from guard.chat.prompt import Prompt
from guard.chat.ruling import NOT_WRITTEN, Answer, Ruling
from guard.conversation import Conversation
from guard.errors import InvalidInput
from guard.moderator import GuardInfo
from guard.serve.client.fail_open import FailOpen, Side
from guard.verdict import Outcome


@dataclass(frozen=True, slots=True)
class Gate:
    """What is in force for one request: its prompt, the options, and where it is counted what passes without a verdict.

    problem: why the prompt could not be parsed, where it passes all the same. info, asked: what the guard judges by,
    if it can say, and its answers on the prompt.
    """

    prompt: Prompt
    options: ChatOptions
    passes: FailOpen
    problem: InvalidInput | None = None
    info: GuardInfo | None = None
    asked: Ruling = field(default=Ruling(()))

    @property
    def holds(self) -> bool:
        return self.options.release == "hold"

    def judged(self, answers: Sequence[Answer], info: GuardInfo | None) -> Gate:
        """The gate once its prompt's conversations have these answers."""
        return replace(self, asked=Ruling((*answers, *((self.problem,) if self.problem else ()))), info=info)

    @property
    def refused(self) -> Outcome | None:
        """Why the prompt must not be forwarded; None: it may. Raises the guard's error where the options say so."""
        return self._refused(self.asked, "prompt")

    def _refused(self, ruling: Ruling, side: Side) -> Outcome | None:
        error = ruling.error
        if self.problem is not None and error is self.problem:  # of the request, and no failure of the guard
            self.passes.passed(side, error)
            return None
        unsafe = any(getattr(each, "outcome", None) is Outcome.UNSAFE for each in ruling.answers)
        if error is not None and not (self.holds and unsafe):
            match self.options.on_errors:
                case "raise":
                    raise error
                case "block":
                    return Outcome.INCOMPLETE
            self.passes.passed(side, error)
            ruling = Ruling(tuple(each for each in ruling.answers if not isinstance(each, Exception)))
        outcome = ruling.outcome if self.holds else Outcome.SAFE
        return None if outcome is Outcome.SAFE else outcome

    def refusal(self, outcome: Outcome, model: str) -> dict[str, Any]:
        """The completion in place of an answer to a prompt that is not forwarded."""
        made = completions.refusal(model, self.prompt.choices, self._words(outcome))
        return {**made, "moderation": self._moderation(())}

    def refusal_chunks(self, outcome: Outcome, model: str) -> list[dict[str, Any]]:
        """The same as a stream."""
        chunks = completions.as_chunks(self.refusal(outcome, model))
        return [*chunks, *self.last(completions.head(chunks[0]), ())]

    def replies(self, completion: Mapping[str, Any]) -> list[Conversation | None]:
        """What to judge of a completion; None for a choice that is empty. Raises UpstreamError where it is none, unless
        all is shown anyway: then there is nothing to judge."""
        try:
            return completions.replies(completion, self.prompt.messages)
        except UpstreamError as problem:
            if self.holds:
                raise
            self.passes.passed("reply", problem)
            return []

    def answered(self, completion: Mapping[str, Any], replies: Sequence[Answer | None]) -> dict[str, Any]:
        """The completion with the choices that may be shown. replies: the answer on each, None where it is empty.

        Raises the guard's error where the options say so.
        """
        made = completions.only_judged(completion) if self.holds else dict(completion)
        for place, answer in enumerate(replies):
            if answer is not None and (outcome := self._refused(Ruling((answer,)), "reply")) is not None:
                choices = list(made["choices"])
                choices[place] = completions.refused(choices[place], self._words(outcome))
                made["choices"] = choices
        return {**made, "moderation": self._moderation([each for each in replies if each is not None])}

    def stream(self, limit: int) -> ChunkStream:
        """The machine of a streamed reply, of at most `limit` characters."""
        return ChunkStream(self.prompt.messages, self.prompt.choices, self.options, limit)

    def last(self, head: Mapping[str, Any], replies: Sequence[Answer]) -> list[dict[str, Any]]:
        """The chunk with the `moderation` of a stream, after all others, if it is asked for."""
        return [{**head, "choices": [], "moderation": self._moderation(replies)}] if self.prompt.asked else []

    def _words(self, outcome: Outcome) -> str:
        return self.options.refusal if outcome is Outcome.UNSAFE else self.options.unjudged

    def _moderation(self, replies: Sequence[Answer]) -> dict[str, Any]:
        written = Ruling(tuple(replies)).field(self.info) if replies else NOT_WRITTEN
        return {"input": self.asked.field(self.info), "output": written}


def gate(body: Mapping[str, Any], options: ChatOptions, passes: FailOpen) -> Gate:
    """The gate of a request, whose own wish to block counts and whose wish not to does not.

    Raises InvalidInput for a body that cannot be judged, unless all is forwarded anyway.
    """
    problem = None
    try:
        prompt = prompts.parse(body)
    except InvalidInput as found:
        prompt, problem = prompts.unjudged(body), found
    if prompt.blocking and options.release == "observe":
        options = replace(options, stream=replace(options.stream, release="hold"))
    if problem is not None and options.release == "hold":
        raise problem
    return Gate(prompt, options, passes, problem)
