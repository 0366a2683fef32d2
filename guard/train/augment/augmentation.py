"""Augmentation while training: each epoch shows every example a little differently. Stored data is never changed.

What an example becomes depends on the seed, the epoch, its id and the settings alone, not on other examples, on their
order or on the number of workers; each step draws for itself, so that switching one on or off, or raising its rate,
leaves the others' choices as they were.

The steps on the text do not look at the label: safe and unsafe examples are mistyped, disguised, padded, injected and
put into machine text at the same rates, so that none of it predicts the label. The steps on the policy follow the rules
of `policy_views`, those on who speaks the rules of `turns`.
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
from guard.train.augment.document_context import texture
from guard.train.augment.injection import PLACES, draw, inject, place
from guard.train.augment.padding import POSITIONS, SHORTEST, Pool, pad
from guard.train.augment.typing_errors import mistyped
from guard.views.disguise import READABLE, Disguise, obfuscate

Prefix = Annotated[str, Field(pattern="^[A-Za-z]{1,8}$")]
_SEPARATORS = ("\n\n", "\n", " ")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How often each step is taken: a rate is a share of the examples that the step can be taken on."""

    __pydantic_config__ = ConfigDict(**schema.STRICT, use_attribute_docstrings=True)

    shuffle: Share = 0.5
    """The categories come in random order."""
    renumber: Share = 0.5
    """Codes become a prefix and 1, 2, 3 … in the order of the view; the example's categories follow."""
    prefixes: Annotated[tuple[Prefix, ...], Field(min_length=1)] = ("S",)
    """Of new codes; one is drawn. Letters only."""
    drop: Share = 0.5
    """A random part of the categories that are not violated leaves the policy."""
    narrow: Share = 0.1
    """Of several violated categories some leave the policy; at least one stays."""
    flip: Share = 0.1
    """All violated categories leave the policy, and the example is safe: only what the policy names is unsafe."""
    incomplete: frozenset[str] = frozenset()
    """Sources whose categories may not be all that a row violates: their rows are never flipped."""
    names_only: Share = 0.2
    """The guard reads the categories' names alone …"""
    short: Share = 0.3
    """… or names and definitions; else includes and excludes, too. The two rates add up to 1 at most."""
    refused: Share = 0.02
    """A prompt is answered by a plain refusal, which is judged in its place and is safe."""
    tool: Share = 0.02
    """A prompt comes as the output of a tool."""
    history: Share = 0.1
    """Benign exchanges come before the first message."""
    exchanges: PositiveInt = 4
    """How many of them at most."""
    mistyping: Share = 0.05
    """Some of the words of the judged message are mistyped."""
    obfuscation: Share = 0.1
    """The judged message, or a span of it, is disguised."""
    obfuscations: Annotated[tuple[Disguise, ...], Field(min_length=1)] = READABLE
    """The disguises to draw from. A large model reads tags, base64, hex and rot13, too; a small one can only guess."""
    padding: Share = 0.05
    """Benign texts surround the judged message."""
    padded: Annotated[int, Field(ge=SHORTEST)] = 4000
    """Characters that a padded message has at most. The harm may then lie in any window: see Augmented.span."""
    machine: Share = 1 / 3
    """The share of the padding's pieces that are machine texts."""
    injection: Share = 0.1
    """A text that is aimed at the guard is put into the judged message. 0 if prompt injection violates the policy."""
    texture: Share = 0.05
    """The judged message stands in machine text: a header, a signature, a table around it; or in a string, a log …"""

    def __post_init__(self) -> None:
        if self.names_only + self.short > 1.0 + 1e-9:
            raise ValueError(f"names_only and short must add up to 1 at most, not {self.names_only + self.short:g}")


@dataclass(frozen=True, slots=True)
class Augmented:
    """An example as it is shown this time, under the policy that is shown with it.

    `detail` is how much of the policy the guard is to read. `span` are the characters of the judged message that hold
    the example's own text, disguised or escaped or as it was: of an unsafe example, a window without them is not sure
    to be unsafe.
    """

    example: Example
    policy: Policy
    detail: Detail
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Dice:
    """Random numbers of one visit to one example."""

    visit: bytes

    @classmethod
    def of(cls, seed: int, epoch: int, example: Example) -> _Dice:
        return cls(f"{seed}\0{epoch}\0{example.id}\0".encode("utf-8", "surrogatepass"))

    def roll(self, step: str, rate: float) -> random.Random | None:
        """With probability `rate`, the step's own generator. A step that is taken at a rate is so at any higher one."""
        if not rate:
            return None
        digest = hashlib.sha256(self.visit + step.encode()).digest()
        if int.from_bytes(digest[:7]) >= rate * 2**56:
            return None
        return random.Random(int.from_bytes(digest[8:16]))  # bytes as a seed would cost twice as much


def augment(
    example: Example, policy: Policy, settings: Augmentation, seed: int, epoch: int, pool: Pool | None = None
) -> Augmented:
    """The example as epoch `epoch` shows it. Without a pool of benign texts nothing is padded or preceded by turns.

    An example whose label says nothing under the policy (see policy_views.decides) keeps its label and the policy.
    """
    dice, pool = _Dice.of(seed, epoch, example), pool or Pool()
    example = _spoken(example, settings, dice)
    example, shown, detail = _under_policy(example, policy, settings, dice)
    judged = example.conversation.judged
    text, span = _written(judged, shown, settings, dice, pool)
    conversation = example.conversation
    if text != judged.content:
        conversation = Conversation((*conversation.context, Message(judged.role, text)))
    if rng := dice.roll("history", settings.history):
        earlier = turns.history(pool, rng.randint(1, settings.exchanges), rng)
        conversation = turns.preceded(conversation, earlier)
    if conversation is not example.conversation:
        example = dataclasses.replace(example, conversation=conversation)
    return Augmented(example, shown, detail, span)


def _spoken(example: Example, settings: Augmentation, dice: _Dice) -> Example:
    """Who says what."""
    if rng := dice.roll("refused", settings.refused):
        example = turns.refused(example, rng.choice(turns.REFUSALS))
    if dice.roll("tool", settings.tool):
        example = turns.as_tool_output(example)
    return example


def _under_policy(
    example: Example, policy: Policy, settings: Augmentation, dice: _Dice
) -> tuple[Example, Policy, Detail]:
    """The example's label under a view of the policy, the view, and how much of it the guard reads."""
    if not views.decides(example, policy):
        return example, policy, "full"
    codes = policy.codes
    violated = (example.categories or frozenset()) if example.label == "unsafe" else frozenset()
    if violated or example.label == "safe":  # else it is unsafe and nobody knows why: the whole policy is in force
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


def _written(
    judged: Message, policy: Policy, settings: Augmentation, dice: _Dice, pool: Pool
) -> tuple[str, tuple[int, int]]:
    """The judged text after the steps on it, and where in it the judged text lies."""
    text, start = judged.content, 0
    if rng := dice.roll("mistyping", settings.mistyping):
        text = mistyped(text, rng)
    if rng := dice.roll("obfuscation", settings.obfuscation):
        text = obfuscate(text, rng.choice(settings.obfuscations), rng, answer=judged.role == "assistant")
    end = len(text)
    if rng := dice.roll("padding", settings.padding):
        length = int(SHORTEST * (settings.padded / SHORTEST) ** rng.random())  # short ones are likelier
        text, start = pad(text, pool.pieces(judged.role), length, rng.choice(POSITIONS), rng, settings.machine)
        end += start
    if rng := dice.roll("injection", settings.injection):
        forged = draw(policy, rng)
        at = place(text, rng.choice(PLACES), rng)
        longer = inject(text, forged, at, rng.choice(_SEPARATORS))
        grown = len(longer) - len(text)
        text, start, end = longer, start + grown * (at <= start), end + grown * (at < end)
    if rng := dice.roll("texture", settings.texture):  # last, so that it changes nothing for the other steps
        return texture(text, (start, end), rng)
    return text, (start, end)
