"""Audited rows as training data: those that the guard was least sure of, no two alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from guard.filter.audit.labels import Label
from guard.filter.audit.sample import Sampled
from guard.verdict import Outcome

ALIKE = 0.5  # Jaccard similarity of word triples, from which one of two rows is enough
_WORD = re.compile(r"\w+")


def training_rows(
    sample: Sequence[Sampled], labels: Mapping[int, Label], most: int | None = None
) -> Iterator[dict[str, Any]]:
    """Rows for `guard data build`, or for `guard train --data`: messages, label and, of unsafe ones, known categories.

    Those that the guard got wrong come first, then those whose p_unsafe is nearest to 0.5; rows like an earlier one
    are left out. most: how many; None: all that are left.
    """
    taken: list[frozenset[tuple[str, ...]]] = []
    chosen = sorted((each for each in sample if each.id in labels), key=lambda each: _sureness(each, labels[each.id]))
    for each in chosen:
        if most is not None and len(taken) == most:
            return
        triples = _triples(each)
        if any(_similarity(triples, other) >= ALIKE for other in taken):
            continue
        taken.append(triples)
        said = labels[each.id]
        row: dict[str, Any] = {
            "messages": [{"role": role, "content": content} for role, content in each.messages],
            "label": said.label,
        }
        if said.label == "unsafe" and said.categories is not None:
            row["categories"] = list(said.categories)
        yield row


def _sureness(each: Sampled, said: Label) -> tuple[bool, float, int]:
    right = (each.outcome == Outcome.UNSAFE.value) == (said.label == "unsafe")
    return right, abs(each.p_unsafe - 0.5), each.id


def _triples(each: Sampled) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(" ".join(content for _, content in each.messages).lower())
    return frozenset(tuple(words[place : place + 3]) for place in range(max(1, len(words) - 2)))


def _similarity(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / max(1, len(a | b))
