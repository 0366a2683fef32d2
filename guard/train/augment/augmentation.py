"""Augmentation at training time: every epoch sees a different variant of each example. Stored data never changes.

A variant depends on the seed, the epoch, the example's id and the settings alone, not on other examples, their order or
the number of workers. Each step has its own random numbers, so that enabling one, or raising its rate, does not change
the others' choices.

Steps on the text are independent of the label: safe and unsafe examples are mistyped, disguised, padded, injected and
put into machine text at the same rates, so that none of it predicts the label. Steps on the roles follow the rules of
`turns`. What becomes of the policy is drawn for groups of rows, not here: guard.train.causal.groups.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field, PositiveInt

from guard import schema
from guard.conversation import Conversation, Example, Message
from guard.policy import Policy
from guard.schema import Share
from guard.train.augment import turns
from guard.train.augment.document_context import embed
from guard.train.augment.injection import PLACES, draw, inject, position_of
from guard.train.augment.padding import POSITIONS, SHORTEST, Pool, pad
from guard.train.augment.typing_errors import mistyped
from guard.views.disguise import READABLE, Disguise, obfuscate

Prefix = Annotated[str, Field(pattern="^[A-Za-z]{1,8}$")]
_SEPARATORS = ("\n\n", "\n", " ")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The rate of each step: the share of the examples that it applies to."""

    __pydantic_config__ = ConfigDict(**schema.STRICT, use_attribute_docstrings=True)

    shuffle: Share = 0.5
    """The categories come in random order. (This and all up to `short`: rates of the groups of a causal guard.)"""
    renumber: Share = 0.5
    """Codes become a prefix and 1, 2, 3 … in the order of the view; the rows' categories are renamed too."""
    prefixes: Annotated[tuple[Prefix, ...], Field(min_length=1)] = ("S",)
    """Prefixes of new codes, of which one is drawn. Letters only."""
    drop: Share = 0.5
    """A random subset of the categories, of any size, is not in force; what violates only those is safe."""
    contrast: Share = 0.0
    """The same rows are shown under a random part of the categories and under the rest, in one step, so that nothing
    but the policy tells their labels apart. (Instead of `drop`.)"""
    incomplete: frozenset[str] = frozenset()
    """Sources that may not list all categories that a row violates: nothing is left out for their rows."""
    names_only: Share = 0.2
    """The guard sees only the names of the categories …"""
    short: Share = 0.3
    """… or names and definitions; otherwise includes and excludes as well. The two rates sum to at most 1."""
    refused: Share = 0.02
    """A prompt is followed by a plain refusal, which is judged instead and is safe."""
    tool: Share = 0.02
    """A prompt appears as the output of a tool."""
    history: Share = 0.1
    """Benign exchanges precede the first message."""
    exchanges: PositiveInt = 4
    """Their maximum number."""
    mistyping: Share = 0.05
    """Some words of the judged message are mistyped."""
    obfuscation: Share = 0.1
    """The judged message, or a span of it, is disguised."""
    obfuscations: Annotated[tuple[Disguise, ...], Field(min_length=1)] = READABLE
    """The disguises to draw from. Large models can also decode tags, base64, hex and rot13; small ones only guess."""
    padding: Share = 0.05
    """Benign texts surround the judged message."""
    padded: Annotated[int, Field(ge=SHORTEST)] = 4000
    """The maximum number of characters of a padded message. The harm may be in any window: see Augmented.span."""
    machine: Share = 1 / 3
    """The share of padding pieces that are machine texts."""
    injection: Share = 0.1
    """An injection aimed at the guard is inserted. Must be 0 if prompt injection violates the policy."""
    document_context: Share = 0.05
    """The judged message is embedded in a made-up document: beside a header or a table, or inside a string or a log."""

    def __post_init__(self) -> None:
        if self.names_only + self.short > 1.0 + 1e-9:
            raise ValueError(f"names_only + short must be <= 1 (got {self.names_only + self.short:g})")


@dataclass(frozen=True, slots=True)
class Augmented:
    """A variant of an example.

    span: the characters of the judged message that hold the example's
    own text, possibly disguised or escaped: a window of an unsafe example that lacks them is not known to be unsafe.
    """

    example: Example
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Dice:
    """The random numbers of one example in one epoch."""

    seed: bytes

    @classmethod
    def of(cls, seed: int, epoch: int, example: Example) -> _Dice:
        return cls(f"{seed}\0{epoch}\0{example.id}\0".encode("utf-8", "surrogatepass"))

    def roll(self, step: str, rate: float) -> random.Random | None:
        """With probability `rate`, the step's own generator. A step taken at one rate is taken at any higher one.

        The name of the step seeds the generator: another name gives other variants.
        """
        if not rate:
            return None
        digest = hashlib.sha256(self.seed + step.encode()).digest()
        if int.from_bytes(digest[:7]) >= rate * 2**56:
            return None
        return random.Random(int.from_bytes(digest[8:16]))  # a seed of bytes would cost twice as much


def augment(
    example: Example, policy: Policy, settings: Augmentation, seed: int, epoch: int, pool: Pool | None = None
) -> Augmented:
    """The variant of the example in epoch `epoch`. Without a pool of benign texts, no padding or history is added.

    policy: the one that it is judged under, of which an injection speaks.
    """
    dice, pool = _Dice.of(seed, epoch, example), pool or Pool()
    example = _change_roles(example, settings, dice)
    judged = example.conversation.judged
    text, span = _change_text(judged, policy, settings, dice, pool)
    conversation = example.conversation
    if text != judged.content:
        conversation = Conversation((*conversation.context, Message(judged.role, text)))
    if rng := dice.roll("history", settings.history):
        earlier = turns.history(pool, rng.randint(1, settings.exchanges), rng)
        conversation = turns.preceded(conversation, earlier)
    if conversation is not example.conversation:
        example = dataclasses.replace(example, conversation=conversation)
    return Augmented(example, span)


def _change_roles(example: Example, settings: Augmentation, dice: _Dice) -> Example:
    if rng := dice.roll("refused", settings.refused):
        example = turns.refused(example, rng.choice(turns.REFUSALS))
    if dice.roll("tool", settings.tool):
        example = turns.as_tool_output(example)
    return example


def _change_text(
    judged: Message, policy: Policy, settings: Augmentation, dice: _Dice, pool: Pool
) -> tuple[str, tuple[int, int]]:
    """The judged text after all text steps, and the span of the original text in it."""
    text, start = judged.content, 0
    if rng := dice.roll("mistyping", settings.mistyping):
        text = mistyped(text, rng)
    if rng := dice.roll("obfuscation", settings.obfuscation):
        text = obfuscate(text, rng.choice(settings.obfuscations), rng, answer=judged.role == "assistant")
    end = len(text)
    if rng := dice.roll("padding", settings.padding):
        length = int(SHORTEST * (settings.padded / SHORTEST) ** rng.random())  # log-uniform
        text, start = pad(text, pool.pieces(judged.role), length, rng.choice(POSITIONS), rng, settings.machine)
        end += start
    if rng := dice.roll("injection", settings.injection):
        injection = draw(policy, rng)
        at = position_of(text, rng.choice(PLACES), rng)
        longer = inject(text, injection, at, rng.choice(_SEPARATORS))
        added = len(longer) - len(text)
        text, start, end = longer, start + added * (at <= start), end + added * (at < end)
    # Last, so that it changes nothing for the other steps; its name is older than that of its setting.
    if rng := dice.roll("texture", settings.document_context):
        return embed(text, (start, end), rng)
    return text, (start, end)
