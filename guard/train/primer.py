"""Made-up messages from which a model without any language learns to look up what a policy lists.

What real texts violate is learnt slowly, and as long as it is not known, nothing is gained by looking whether the
policy lists it. Here it is known at once: a message that violates a category holds two of that category's own words.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from guard.conversation import Conversation
from guard.errors import DataError, PolicyError
from guard.policy import Policy
from guard.train.conditioned import Item

_WORD = re.compile(r"[^\W\d_]{4,}")
_OWN = 2  # words of a category in a message that violates it
_FEWEST, _MOST = 4, 14  # words of a harmless text in each message


def own_words(rules: Policy) -> dict[str, tuple[str, ...]]:
    """By code: the words of four letters or more by which the policy tells of this category and of no other.

    PolicyError if one has none.
    """
    words = {
        category.code: {
            word.lower()
            for text in (category.name, category.definition, *category.includes)
            for word in _WORD.findall(text)
        }
        for category in rules.categories
    }
    count = Counter(word for found in words.values() for word in found)
    own = {code: tuple(sorted(word for word in found if count[word] == 1)) for code, found in words.items()}
    if missing := [code for code, found in own.items() if not found]:
        raise PolicyError(
            f"policy {rules.id!r}: category {missing[0]} has no word of its own in its name, definition or includes, "
            "so no message can be made up for it; tell it apart from the others, or set primer_steps=0"
        )
    return own


def made_up(
    texts: Sequence[str], rules: Policy, number: int, rng: random.Random
) -> Iterator[tuple[Conversation, Item]]:
    """Messages of a user: some words of a harmless text, and in half of them two of one category's own among them.

    DataError if no text has four words.
    """
    own = own_words(rules)
    split = [words for text in texts if len(words := text.split()) >= _FEWEST]
    if not split:
        raise DataError(
            f"none of the {len(texts)} safe training texts has {_FEWEST} words to make up messages from; add some, or "
            "set primer_steps=0"
        )
    for _ in range(number):
        words = rng.choice(split)
        length = rng.randint(_FEWEST, min(_MOST, len(words)))
        start = rng.randint(0, len(words) - length)
        said = words[start : start + length]
        code = rng.choice(rules.codes) if rng.random() < 0.5 else None
        for word in rng.choices(own[code], k=_OWN) if code else ():
            said.insert(rng.randint(0, len(said)), word)
        yield Conversation.of(" ".join(said)), Item(code is not None, frozenset([code] if code else []))
