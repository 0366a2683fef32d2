"""Padding: benign texts around a message, so that a guard learns to find a short harmful span in a long text.

A share of the pieces may be generated machine texts: benign texts alone are all well written.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from guard.conversation import Example, Role
from guard.data.documents.machine import machine_text

Position = Literal["start", "middle", "end"]
POSITIONS: tuple[Position, ...] = get_args(Position)
SHORTEST = 400  # characters of a padded message
LONGEST_PIECE = 2000  # characters of a text that may become padding
_SEPARATORS = ("\n\n", "\n", " ")
_MACHINE = (80, 600)  # characters of a machine text
_WORD = 24  # characters that may be cut to end with a whole word


@dataclass(frozen=True, repr=False)
class Pool:
    """Texts known to be safe, sorted: prompts, and exchanges of a safe prompt and its safe response."""

    texts: tuple[str, ...] = ()
    exchanges: tuple[tuple[str, str], ...] = ()

    @cached_property
    def replies(self) -> tuple[str, ...]:
        return tuple(reply for _, reply in self.exchanges)

    def pieces(self, role: Role) -> tuple[str, ...]:
        """The texts that may pad a message of that role: responses for the assistant, if there are any."""
        return self.replies if role == "assistant" and self.replies else self.texts


def benign(examples: Iterable[Example]) -> Pool:
    """The pool of the safe training examples without undecided categories; independent of their order.

    Only judged messages are labelled, so a response is used only if its prompt is itself a safe example: a safe
    response may be a refusal of an unsafe prompt.
    """
    texts: set[str] = set()
    replies: set[tuple[str, str]] = set()
    for example in examples:
        messages = example.conversation.messages
        if example.label != "safe" or example.undecided or example.split != "train":
            continue
        if any(len(message.content) > LONGEST_PIECE for message in messages):
            continue
        match [message.role for message in messages]:
            case ["user"]:
                texts.add(messages[0].content)
            case ["user", "assistant"]:
                replies.add((messages[0].content, messages[1].content))
    return Pool(tuple(sorted(texts)), tuple(sorted(pair for pair in replies if pair[0] in texts)))


def filler(pieces: Sequence[str], length: int, separator: str, rng: random.Random, machine: float = 0.0) -> str:
    """Random pieces, joined to at most `length` characters; the last one is cut, after a word where possible.

    machine: the share of pieces that are machine texts instead.
    """
    taken: list[str] = []
    left = length
    while left > 0:
        generated = machine and rng.random() < machine
        piece = machine_text(rng, rng.randint(*_MACHINE)) if generated else rng.choice(pieces)
        if len(piece) > left:
            space = piece.rfind(" ", max(0, left - _WORD), left + 1)
            taken.append(piece[: space if space > 0 else left])
            break
        taken.append(piece)
        left -= len(piece) + len(separator)
    return separator.join(taken)


def pad(
    text: str, pieces: Sequence[str], length: int, position: Position, rng: random.Random, machine: float = 0.0
) -> tuple[str, int]:
    """The text at the start, in the middle or at the end of padding, and the index at which it starts.

    The result has at most `length` characters; a text that long, or without pieces to pad it with, is not padded.
    machine: the share of padding pieces that are machine texts.
    """
    separator = rng.choice(_SEPARATORS)
    room = length - len(text)
    share = {"start": 0.0, "middle": rng.uniform(0.2, 0.8), "end": 1.0}[position]
    lengths = [int(room * part) - len(separator) for part in (share, 1.0 - share)]
    before, after = (filler(pieces, size, separator, rng, machine) if pieces and size > 0 else "" for size in lengths)
    start = len(before) + len(separator) if before else 0
    return separator.join(part for part in (before, text, after) if part), start
