"""What a build makes of texts that are judged by one rule, so that a guard cannot do without reading the rule.

As they come, the texts that keep a rule are rewritings of texts that break it, marked by words of caution. So each text
that breaks its rule is also shown under unrelated rules, which it keeps, and some of either with words of caution,
which change nothing. Where an instruction stands behind a post that is not there by itself, the post is shown alone,
too.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from pydantic import NonNegativeInt

from guard import schema
from guard.assets import asset
from guard.data.row import Label, Rule
from guard.data.sources.topics import Topics
from guard.schema import NotNegative, Share

Made = Literal["given", "cut", "swapped", "disclaimed"]
_TASKS = (
    "Add|Analy[sz]e|Argue|Assess|Break|Clarify|Compare|Complete|Compose|Continue|Create|Critically|Critique|Debate|Debunk|"
    "Decode|Describe|Design|Discuss|Draft|Enhance|Evaluate|Expand|Explain|Explore|Find|Generate|Highlight|How|Identify|"
    "Interpret|Keep|List|Modify|Outline|Propose|Provide|Question|Recommend|Refute|Reframe|Rephrase|Report|Respond|Rewrite|"
    "Suggest|Summari[sz]e|Transform|Turn|What|Why|Write"
)
_INSTRUCTION = re.compile(rf"""\s+(?:OR\s+)?["“](?:{_TASKS})\b[^"“”]{{10,500}}["”]?\s*(?:OR)?\s*$""", re.IGNORECASE)
_SHORTEST_POST = 15  # characters
# Of the share of unsafe texts with words of caution: a bag of words that sees no rule is then not moved by these words.
_CAUTIOUS_SWAPS = 0.6
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)])[.!?](?=\s|[\"”*]|$)")
_CLOSING = re.compile(r"[\"”*\s]*$")


@dataclass(frozen=True, slots=True)
class RuleWeights:
    """Factors on the weight of a source's rows: of texts that break or keep their rule as given, of those under other
    rules, of those with words of caution; `instructed`, besides, where an instruction stands behind the text."""

    __pydantic_config__ = schema.STRICT

    broken: NotNegative = 1.0
    kept: NotNegative = 0.8
    swapped: NotNegative = 1.0
    disclaimed: NotNegative = 1.0
    instructed: NotNegative = 0.3


@dataclass(frozen=True, slots=True)
class Rules:
    """How rows of rules are completed.

    swaps: unrelated rules of its source under which a text that breaks its own is shown again, as safe. disclaimed: the
    share of these texts that are shown again with words of caution, as unsafe; swapped ones get such words, too: they
    tell no label. beside: at most this many unrelated rules beside the row's own in its policy, for all but the
    share `alone`. development: domains kept out of training.
    """

    __pydantic_config__ = schema.STRICT

    swaps: NonNegativeInt = 1
    disclaimed: Share = 0.5
    beside: NonNegativeInt = 3
    alone: Share = 0.5
    weights: RuleWeights = field(default_factory=RuleWeights)
    development: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    """A row as it was read: its text breaks (unsafe) or keeps (safe) its rule."""

    id: str
    text: str
    label: Label
    rule: Rule
    instructed: bool


@dataclass(frozen=True, slots=True, repr=False)
class RuleRow:
    """A row as it is shown: a text, the policy that it is judged by, and the place in it of the rule that it breaks.

    factor: on the weight of the source.
    """

    made: Made
    text: str
    policy: tuple[Rule, ...]
    broken: int | None
    instructed: bool
    factor: float

    @property
    def label(self) -> Label:
        return "safe" if self.broken is None else "unsafe"


class Pool:
    """The rules that may stand in for, or beside, one another: those of one source and one split."""

    def __init__(self, rules: Iterable[Rule], topics: Topics) -> None:
        self._rules = sorted(rules, key=lambda rule: (rule.domain, rule.name, rule.definition))
        self._topics = topics
        self._unrelated: dict[Rule, tuple[Rule, ...]] = {}

    def unrelated(self, rule: Rule) -> tuple[Rule, ...]:
        """The rules that a text which breaks `rule` may be taken to keep: those of its domain, if there are any."""
        if rule not in self._unrelated:
            found = [other for other in self._rules if self._topics.unrelated(rule, other)]
            self._unrelated[rule] = tuple([other for other in found if other.domain == rule.domain] or found)
        return self._unrelated[rule]


def rule_rows(given: Given, pool: Pool, settings: Rules, seed: int, alone_too: bool) -> Iterator[RuleRow]:
    """The given row and what is made of it; equal arguments give equal rows.

    alone_too: also the post without the instruction behind it.
    """
    rng = random.Random(f"{seed}/{given.id}/rule")
    yield from _shown("given", given.text, given, given.instructed, pool, settings, rng)
    if alone_too and given.instructed and (post := without_instruction(given.text)) is not None:
        yield from _shown("cut", post, given, False, pool, settings, rng)


def _shown(
    made: Made, text: str, given: Given, instructed: bool, pool: Pool, settings: Rules, rng: random.Random
) -> Iterator[RuleRow]:
    unrelated, weights = pool.unrelated(given.rule), settings.weights
    factor = weights.instructed if instructed else 1.0

    def beside(used: tuple[Rule, ...]) -> list[Rule]:
        free = [rule for rule in unrelated if rule not in used]
        if not settings.beside or rng.random() < settings.alone:
            return []
        return rng.sample(free, min(len(free), rng.randint(1, settings.beside)))

    def row(made: Made, text: str, rule: Rule, broken: bool, weight: float) -> RuleRow:
        policy = [rule, *beside((rule,))]
        rng.shuffle(policy)
        return RuleRow(made, text, tuple(policy), policy.index(rule) if broken else None, instructed, factor * weight)

    unsafe = given.label == "unsafe"
    yield row(made, text, given.rule, unsafe, weights.broken if unsafe else weights.kept)
    if not unsafe:
        return
    for other in rng.sample(unrelated, min(settings.swaps, len(unrelated))):
        cautious = rng.random() < settings.disclaimed * _CAUTIOUS_SWAPS and not instructed
        yield row("swapped", disclaim(text, rng) if cautious else text, other, False, weights.swapped)
    if rng.random() < settings.disclaimed and not instructed:
        yield row("disclaimed", disclaim(text, rng), given.rule, True, weights.disclaimed)


def without_instruction(text: str) -> str | None:
    """The post without the quoted instructions behind it; None if there are none, or too little is left."""
    post = text
    while found := _INSTRUCTION.search(post):
        post = post[: found.start()].rstrip()
    return post if post != text and len(post) >= _SHORTEST_POST else None


@dataclass(frozen=True, slots=True)
class Disclaimers:
    """Words of caution to stand before a text, behind it, or at the end of one of its sentences."""

    __pydantic_config__ = schema.STRICT

    before: tuple[str, ...]
    behind: tuple[str, ...]
    within: tuple[str, ...]


@functools.cache
def disclaimers() -> Disclaimers:
    """The shipped ones."""
    return schema.load(asset("taxonomy/templates/disclaimers.yaml"), Disclaimers)


def disclaim(text: str, rng: random.Random) -> str:
    """The text with words of caution."""
    words = disclaimers()
    ends = [found.start() for found in _SENTENCE_END.finditer(text)]
    place = rng.choice(("before", "behind", "within") if ends else ("before", "behind"))
    if place == "before":
        return f"{rng.choice(words.before)} {text}"
    if place == "within":
        at = rng.choice(ends)
        return f"{text[:at]} {rng.choice(words.within)}{text[at:]}"
    closing = _CLOSING.search(text)
    at = closing.start() if closing and rng.random() < 0.5 else len(text)  # within the quotes around a post, or not
    return f"{text[:at]} {rng.choice(words.behind)}{text[at:]}"
