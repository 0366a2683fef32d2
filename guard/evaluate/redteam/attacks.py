"""Attacks on a guard: changes to a text that preserve its request, so that its label stays.

The wrappers, forgeries, passages and words are those of taxonomy/templates/attacks-v1.yaml. They are worded from the
perspective of a user; around a response they are still valid attacks that leave it intact.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal, get_args

from guard import schema
from guard.assets import asset
from guard.errors import InvalidInput
from guard.evaluate.redteam.arrangements import ARRANGEMENTS
from guard.evaluate.redteam.encodings import ENCODINGS
from guard.evaluate.redteam.lettering import LETTERING
from guard.evaluate.redteam.packaging import PACKAGING, SEVERAL_TURNS
from guard.policy import Policy
from guard.train.augment import injection
from guard.train.augment.padding import filler
from guard.views import disguise

Kind = Literal[
    "noise", "disguise", "whitespace", "encoding", "lettering", "arrangement", "packaging",
    "paraphrase", "template", "injection", "padding", "suffix",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
Group = Literal["common", "exotic", "framing"]
GROUPS: tuple[Group, ...] = get_args(Group)
_GROUP_OF: Mapping[Kind, Group] = {
    **dict.fromkeys(KINDS[:3], "common"),
    **dict.fromkeys(KINDS[3:7], "exotic"),
    **dict.fromkeys(KINDS[7:], "framing"),
}
Place = Literal["before", "after", "both"]
LENGTHS = (500, 2000, 16000)  # characters of a padded text
SEARCH = "suffix_search"  # the attack that queries the guard; see suffix_search.py
TEXT = "{text}"
_SUFFIX = (4, 16)  # words and phrases of a random suffix
_RATE = 0.4  # share of the longer words that noise changes
_GAP = "\n\n"  # between a text and its padding
_HYPHEN = "-\u00ad"  # followed by a soft hyphen, which distinguishes it from hyphens of the text
_WIDE = "\u2003"
_LONGER = re.compile(r"[^\W\d_]{4,}")
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Material:
    """The template file: {text} occurs once in each wrapper and forgery and in `otherwise`."""

    __pydantic_config__ = schema.STRICT

    wrappers: dict[str, tuple[str, ...]]
    forgeries: dict[str, tuple[str, ...]]
    openings: dict[str, str]
    otherwise: str
    synonyms: dict[str, str]
    padding: tuple[str, ...]
    suffixes: tuple[str, ...]

    def __post_init__(self) -> None:
        for field, groups in (("wrappers", self.wrappers), ("forgeries", self.forgeries)):
            for name, texts in groups.items():
                for index, text in enumerate(texts):
                    if text.count(TEXT) != 1:
                        raise schema.Misplaced(f"must hold {TEXT} once", field, name, index)
        if self.otherwise.count(TEXT) != 1:
            raise schema.Misplaced(f"must hold {TEXT} once", "otherwise")


@cache
def material() -> Material:
    return schema.load(asset("taxonomy/templates/attacks-v1.yaml"), Material)


@dataclass(frozen=True, slots=True)
class Attack:
    """A transformation of a text. `apply` depends only on the text, the random state and the policy.

    undo: the inverse, as far as the attack is invertible. verbatim: the result contains the text verbatim.
    several_turns: the result is several messages (see `packaging.TURN`).
    """

    name: str
    kind: Kind
    apply: Callable[[str, random.Random, Policy], str]
    undo: Callable[[str], str] | None = None
    verbatim: bool = False
    several_turns: bool = False

    @property
    def group(self) -> Group:
        """Disguises that are common or exotic, or texts around the text that frame it."""
        return _GROUP_OF[self.kind]


# -- character noise --------------------------------------------------------------------------------------------------


def _noisy(text: str, rng: random.Random, change: Callable[[str, int], str]) -> str:
    """The text with a random subset of its longer words changed at one position, never at their first letter."""

    def replace(match: re.Match[str]) -> str:
        word = match.group()
        return change(word, rng.randrange(1, len(word) - 1)) if rng.random() < _RATE else word

    return _LONGER.sub(replace, text)


def swap(text: str, rng: random.Random) -> str:
    """Two adjacent letters are swapped in some of the longer words."""
    return _noisy(text, rng, lambda word, at: word[:at] + word[at + 1] + word[at] + word[at + 2 :])


def drop(text: str, rng: random.Random) -> str:
    """A letter is dropped from some of the longer words."""
    return _noisy(text, rng, lambda word, at: word[:at] + word[at + 1 :])


def double(text: str, rng: random.Random) -> str:
    """A letter is doubled in some of the longer words."""
    return _noisy(text, rng, lambda word, at: word[:at] + word[at] + word[at:])


def random_case(text: str, rng: random.Random) -> str:
    """Every letter in random case, unless that would turn it into several letters or another one."""

    def change(letter: str) -> str:
        other = letter.upper() if rng.random() < 0.5 else letter.lower()
        return other if len(other) == 1 and other.casefold() == letter.casefold() else letter

    return "".join(map(change, text))


# -- whitespace -------------------------------------------------------------------------------------------------------


def words_joined(text: str) -> str:
    """The text without whitespace."""
    return "".join(text.split()) or text


def hyphenated(text: str) -> str:
    """A hyphen in the middle of the longer words."""
    return _LONGER.sub(lambda match: _halved(match.group()), text)


def _halved(word: str) -> str:
    middle = len(word) // 2
    return word[:middle] + _HYPHEN + word[middle:]


# -- paraphrases without a model --------------------------------------------------------------------------------------


def reopened(text: str) -> str:
    """The text with a known opening replaced by a roundabout one, or wrapped if it has no known opening."""
    templates = material()
    for opening, roundabout in templates.openings.items():
        if text.lower().startswith(opening):
            return roundabout + text[len(opening) :]
    return templates.otherwise.replace(TEXT, text)


def reworded(text: str) -> str:
    """The text with everyday words replaced by bookish synonyms."""
    synonyms = material().synonyms

    def change(match: re.Match[str]) -> str:
        word = match.group()
        other = synonyms.get(word.lower(), word)
        return other[0].upper() + other[1:] if word[0].isupper() else other

    return _WORD.sub(change, text)


# -- texts around the text --------------------------------------------------------------------------------------------


def wrapped(text: str, templates: Sequence[str], rng: random.Random) -> str:
    return rng.choice(templates).replace(TEXT, text)


def injected(text: str, kind: injection.Kind, policy: Policy, rng: random.Random) -> str:
    """The text followed by an injection of that kind, from those used in training that do not say unsafe."""
    category = rng.choice(policy.categories)
    template = rng.choice([template for template in injection.shipped()[kind] if "unsafe" not in template])
    return injection.inject(text, template.format(code=category.code, name=category.name), len(text))


def padded(text: str, place: Place, length: int, rng: random.Random) -> str:
    """The text with harmless passages before it, after it or both, of at most `length` characters in total.

    A text that leaves no room is not padded.
    """
    gaps = len(_GAP) * (2 if place == "both" else 1)
    room = length - len(text) - gaps
    first = {"before": room, "after": 0, "both": room // 2}[place]
    passages = material().padding
    before, after = (filler(passages, size, " ", rng) if size > 0 else "" for size in (first, room - first))
    return _GAP.join(part for part in (before, text, after) if part)


def with_suffix(text: str, words: Sequence[str]) -> str:
    return f"{text} {' '.join(words)}" if words else text


def random_suffix(text: str, rng: random.Random) -> str:
    """The text followed by random harmless words: the baseline of the suffix search."""
    return with_suffix(text, rng.choices(material().suffixes, k=rng.randint(*_SUFFIX)))


# -- all of them ------------------------------------------------------------------------------------------------------


@cache
def shipped() -> Mapping[str, Attack]:
    """Every attack by its name, in the order of reports."""
    templates = material()
    attacks = [
        *(_random(change.__name__, "noise", change) for change in (swap, drop, double)),
        _random("random_case", "noise", random_case, str.casefold),
        *(_disguise(name) for name in get_args(disguise.Disguise)),
        _fixed("words_joined", "whitespace", words_joined),
        _fixed(
            "words_on_lines", "whitespace", lambda text: text.replace(" ", "\n"), lambda text: text.replace("\n", " ")
        ),
        _fixed(
            "wide_spaces", "whitespace", lambda text: text.replace(" ", _WIDE), lambda text: text.replace(_WIDE, " ")
        ),
        _fixed("hyphenated", "whitespace", hyphenated, lambda text: text.replace(_HYPHEN, "")),
        *(_random(name, "encoding", change) for name, change in ENCODINGS.items()),
        *(_random(name, "lettering", change) for name, change in LETTERING.items()),
        *(_random(name, "arrangement", change) for name, change in ARRANGEMENTS.items()),
        *(
            _random(name, "packaging", change, several_turns=name in SEVERAL_TURNS)
            for name, change in PACKAGING.items()
        ),
        _fixed("roundabout", "paraphrase", reopened),
        _fixed("bookish", "paraphrase", reworded),
        *(_template(name, "template", texts) for name, texts in templates.wrappers.items()),
        *(_injection(kind) for kind in get_args(injection.Kind)),
        *(_template(name, "injection", texts) for name, texts in templates.forgeries.items()),
        *(_padding(place, length) for place in get_args(Place) for length in LENGTHS),
        _random("suffix_random", "suffix", random_suffix, verbatim=True),
        # Without a guard to query it is the random suffix: `attack_run` runs the search instead.
        _random(SEARCH, "suffix", random_suffix, verbatim=True),
    ]
    return {attack.name: attack for attack in attacks}


def choose(names: Sequence[str]) -> tuple[Attack, ...]:
    """The attacks with these names, kinds or groups, in the order of reports; all attacks if none is named."""
    known = shipped()
    for name in names:
        if name not in known and name not in (*KINDS, *GROUPS):
            raise InvalidInput(
                f"no attack {name!r}; available groups: {', '.join(GROUPS)}; available kinds: {', '.join(KINDS)}; "
                f"available attacks: {', '.join(known)}"
            )
    return tuple(
        attack for attack in known.values() if not names or {attack.name, attack.kind, attack.group} & set(names)
    )


def _fixed(name: str, kind: Kind, change: Callable[[str], str], undo: Callable[[str], str] | None = None) -> Attack:
    return Attack(name, kind, lambda text, rng, policy: change(text), undo)


def _random(
    name: str,
    kind: Kind,
    change: Callable[[str, random.Random], str],
    undo: Callable[[str], str] | None = None,
    verbatim: bool = False,
    several_turns: bool = False,
) -> Attack:
    def apply(text: str, rng: random.Random, policy: Policy) -> str:
        changed = change(text, rng)
        return changed if changed.strip() else text  # one without letters, say, has no first letters

    return Attack(name, kind, apply, undo, verbatim, several_turns)


def _disguise(name: disguise.Disguise) -> Attack:
    return _random(
        name,
        "disguise",
        lambda text, rng: disguise.encode(text, name, rng),
        partial(disguise.decode, disguise=name),
    )


def _template(name: str, kind: Kind, templates: tuple[str, ...]) -> Attack:
    return _random(name, kind, lambda text, rng: wrapped(text, templates, rng), verbatim=True)


def _injection(kind: injection.Kind) -> Attack:
    return Attack(
        f"injected_{kind}", "injection", lambda text, rng, policy: injected(text, kind, policy, rng), verbatim=True
    )


def _padding(place: Place, length: int) -> Attack:
    name = f"padding_{place}_{length}"
    return _random(name, "padding", lambda text, rng: padded(text, place, length, rng), verbatim=True)
