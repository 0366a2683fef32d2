"""A streamed completion as a machine (guard.stream): the model's chunks in, the chunks to send out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guard.chat import completion as completions
from guard.chat.choice import Choice, Piece
from guard.chat.completion import UpstreamError
from guard.chat.options import ChatOptions
from guard.chat.ruling import Answer
from guard.conversation import Message
from guard.stream import Check

Chunk = dict[str, Any]


class ChunkStream:
    """The chunks of `count` choices, each a reply to `context`.

    Log-probabilities, which would show held text, and fields that are not judged are left out.
    """

    def __init__(self, context: Sequence[Message], count: int, options: ChatOptions, limit: int) -> None:
        self.choices: dict[int, Choice] = {}
        self.head: Chunk = {"object": "chat.completion.chunk"}  # what all chunks have in common
        self._context, self._count, self._options, self._limit = context, count, options, limit
        self._usage: Any = None
        self._checking: tuple[int, Choice] | None = None
        self._ended = False

    @property
    def done(self) -> bool:
        """Whether every choice is settled: after the end all that came, before it all that were asked for, stopped."""
        if self._ended:
            return all(choice.done for choice in self.choices.values())
        return len(self.choices) >= self._count and all(choice.cut for choice in self.choices.values())

    @property
    def complete(self) -> bool:
        """Whether the end of every choice has come, or it was stopped."""
        return all(choice.reason is not None or choice.cut for choice in self.choices.values())

    @property
    def wants_input(self) -> bool:
        open_choices = [each for each in self.choices.values() if not each.done and not each.closed]
        return not self._ended and all(each.machine.wants_input for each in open_choices)

    def push(self, chunk: Mapping[str, Any], now: float) -> list[Chunk]:
        """Takes in a chunk. Raises UpstreamError where it is none."""
        choices = completions.choices_of(chunk)
        self.head |= completions.head(chunk)
        self._usage = completions.numbers(chunk.get("usage")) or self._usage
        return [sent for given in choices for sent in self._push(given, now)]

    def _push(self, given: Mapping[str, Any], now: float) -> list[Chunk]:
        index, delta = given.get("index", 0), given.get("delta") or {}
        if not isinstance(index, int):
            raise UpstreamError("the upstream sent a choice whose `index` is no number")
        if not isinstance(delta, Mapping):
            raise UpstreamError("the upstream sent a choice whose `delta` is no object")
        new = index not in self.choices
        choice = self.choices.setdefault(index, Choice(self._context, self._options, self._limit))
        pieces: list[Piece] = [({"role": "assistant", "content": ""}, None)] if new else []
        choice.push(delta, now)
        if (reason := given.get("finish_reason")) is not None:
            pieces += choice.close(completions.reason(reason), now)
        return self._chunks(index, pieces)

    def end(self, now: float) -> list[Chunk]:
        """No chunk will come."""
        self._ended = True
        pieces = [(index, choice.close(None, now)) for index, choice in self.choices.items()]
        return [chunk for index, each in pieces for chunk in self._chunks(index, each)]

    def stop(self, text: str) -> list[Chunk]:
        """The end of all choices that are not settled, in the assistant's words."""
        open_choices = [(index, choice) for index, choice in self.choices.items() if not choice.done]
        return [chunk for index, choice in open_choices for chunk in self._chunks(index, choice.stop(text))]

    def last(self) -> list[Chunk]:
        """What comes after all choices: usage."""
        return [] if self._usage is None else [{**self.head, "choices": [], "usage": self._usage}]

    def wait(self, now: float) -> float | None:
        times = (choice.machine.wait(now) for choice in self.choices.values() if not choice.done)
        return min((time for time in times if time is not None), default=None)

    def due(self, now: float) -> Check | None:
        if self._checking is not None:
            return None
        for index, choice in self.choices.items():
            if not choice.done and (check := choice.machine.due(now)) is not None:
                self._checking = index, choice
                return check
        return None

    def judged(self, check: Check, answer: Answer) -> list[Chunk]:
        """Raises the guard's error where the options say so."""
        assert self._checking is not None
        (index, choice), self._checking = self._checking, None
        return self._chunks(index, choice.judged(check, answer))

    def _chunks(self, index: int, pieces: Sequence[Piece]) -> list[Chunk]:
        return [
            {**self.head, "choices": [{"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}]}
            for delta, reason in pieces
        ]

    @property
    def answers(self) -> list[Answer]:
        """The last answer on each choice that has one."""
        return [each.answer for each in self.choices.values() if each.answer is not None]
