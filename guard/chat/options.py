"""Options of moderated chat completions."""

from __future__ import annotations

from dataclasses import dataclass, field

from guard.stream import Release, StreamOptions


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What is done with what the guard does not call safe.

    stream: how replies are checked while they are written; its `release` is that of prompts and whole replies, too:
    `hold` forwards no prompt and shows no reply without a verdict of SAFE, `observe` forwards and shows everything.
    refusal, unjudged: the assistant's words in place of what is unsafe, and of what the guard cannot judge.
    """

    refusal: str = "I can't help with that."
    unjudged: str = "I can't check this message, so I can't answer it."
    stream: StreamOptions = field(default_factory=StreamOptions)

    @property
    def release(self) -> Release:
        return self.stream.release
