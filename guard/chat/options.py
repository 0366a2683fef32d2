"""Options of moderated chat completions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from guard.errors import ConfigError
from guard.serve.core.language import RULES, UnsupportedLanguage
from guard.stream import Release, StreamOptions

OnError = Literal["raise", "block", "allow"]
ON_ERROR: tuple[OnError, ...] = get_args(OnError)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What is done with what the guard does not call safe. Raises ConfigError for what is not allowed.

    stream: how replies are checked while they are written; its `release` is that of prompts and whole replies, too:
    `hold` forwards no prompt and shows no reply without a verdict of SAFE, `observe` forwards and shows everything.
    refusal, unjudged: the assistant's words in place of what is unsafe, and of what the guard cannot judge.
    on_error: what an error of the guard means: `raise` it (the proxy: 503 or 429), `block` as what cannot be judged, or
    `allow`, which is counted and logged; None: `raise` where text is held, `allow` where all is shown anyway.
    unsupported_language: whether a text in a language that a model in this process was not trained for is `incomplete`,
    and so what cannot be judged, or `judge`d as any other; a service has its own rule.
    """

    refusal: str = "I can't help with that."
    unjudged: str = "I can't check this message, so I can't answer it."
    stream: StreamOptions = field(default_factory=StreamOptions)
    on_error: OnError | None = None
    unsupported_language: UnsupportedLanguage = "incomplete"

    def __post_init__(self) -> None:
        if self.on_error not in (None, *ON_ERROR):
            raise ConfigError(f"unknown on_error {str(self.on_error)[:40]!r}; allowed: {', '.join(ON_ERROR)}")
        if self.unsupported_language not in RULES:
            raise ConfigError(
                f"unknown unsupported_language {str(self.unsupported_language)[:40]!r}; allowed: {', '.join(RULES)}"
            )

    @property
    def release(self) -> Release:
        return self.stream.release

    @property
    def on_errors(self) -> OnError:
        """The rule in force."""
        return self.on_error or ("raise" if self.release == "hold" else "allow")
