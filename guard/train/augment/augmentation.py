"""Augmentation at training time: every epoch sees a different variant of each example. Stored data never changes.

A variant depends on the seed, the epoch, the example's id and the settings alone, not on other examples, their order or
the number of workers. Each step has its own random numbers, so that enabling one, or raising its rate, does not change
the others' choices.

Steps on the text are independent of the label: safe and unsafe examples are mistyped, disguised, padded, injected and
put into machine text at the same rates, so that none of it predicts the label. Steps on the policy follow the rules of
`policy_views`, steps on the roles those of `turns`.
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
from guard.policy import Detail, Policy
from guard.schema import Share
from guard.train.augment import policy_views as views
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
    """The categories come in random order."""
    renumber: Share = 0.5
    """Codes become a prefix and 1, 2, 3 … in the order of the view; the example's categories are renamed too."""
    prefixes: Annotated[tuple[Prefix, ...], Field(min_length=1)] = ("S",)
    """Prefixes of new codes, of which one is drawn. Letters only."""
    drop: Share = 0.5
    """A random subset of the categories that are not violated is removed from the policy."""
    narrow: Share = 0.1
    """Of several violated categories some are removed from the policy; at least one stays."""
    flip: Share = 0.1
    """All violated categories are removed, and the example becomes safe: only what the policy names is unsafe."""
    incomplete: frozenset[str] = frozenset()
    """Sources that may not list all categories that a row violates: their rows are never flipped."""
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
    """A variant of an example, with the policy that it is judged under.

    detail: how much of the policy the guard sees. span: the characters of the judged message that hold the example's
    own text, possibly disguised or escaped: a window of an unsafe example that lacks them is not known to be unsafe.
    """

    example: Example
    policy: Policy
    detail: Detail
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

    An example whose label is undefined under the policy (see policy_views.decides) keeps its label and the policy.
    """
    dice, pool = _Dice.of(seed, epoch, example), pool or Pool()
    example = _change_roles(example, settings, dice)
    example, view, detail = _change_policy(example, policy, settings, dice)
    judged = example.conversation.judged
    text, span = _change_text(judged, view, settings, dice, pool)
    conversation = example.conversation
    if text != judged.content:
        conversation = Conversation((*conversation.context, Message(judged.role, text)))
    if rng := dice.roll("history", settings.history):
        earlier = turns.history(pool, rng.randint(1, settings.exchanges), rng)
        conversation = turns.preceded(conversation, earlier)
    if conversation is not example.conversation:
        example = dataclasses.replace(example, conversation=conversation)
    return Augmented(example, view, detail, span)


def _change_roles(example: Example, settings: Augmentation, dice: _Dice) -> Example:
    if rng := dice.roll("refused", settings.refused):
        example = turns.refused(example, rng.choice(turns.REFUSALS))
    if dice.roll("tool", settings.tool):
        example = turns.as_tool_output(example)
    return example


def _change_policy(
    example: Example, policy: Policy, settings: Augmentation, dice: _Dice
) -> tuple[Example, Policy, Detail]:
    """The example with its label under a view of the policy, the view, and its detail."""
    if not views.decides(example, policy):
        return example, policy, "full"
    codes = policy.codes
    violated = (example.categories or frozenset()) if example.label == "unsafe" else frozenset()
    if violated or example.label == "safe":  # else it is unsafe for unknown reasons: the whole policy applies
        complete = violated.issubset(codes) and example.source not in settings.incomplete
        codes = views.decided(codes, violated, example.undecided)
        if complete and dice.roll("flip", settings.flip):
            codes = views.flipped(codes, violated)
        elif rng := dice.roll("narrow", settings.narrow):
            codes = views.narrowed(codes, violated, rng)
        if rng := dice.roll("drop", settings.drop):
            codes = views.thinned(codes, violated, rng)
    if rng := dice.roll("shuffle", settings.shuffle):
        codes = tuple(rng.sample(codes, len(codes)))
    names = {code: code for code in codes}
    if rng := dice.roll("renumber", settings.renumber):
        names = views.renumbered(codes, rng.choice(settings.prefixes))
    detail: Detail = "full"
    reduced = settings.names_only + settings.short
    if rng := dice.roll("detail", reduced):
        detail = "names" if rng.random() * reduced < settings.names_only else "short"
    return views.relabelled(example, names), views.view(policy, names, detail), detail


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
