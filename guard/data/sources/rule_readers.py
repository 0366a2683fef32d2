"""The reader of texts that are each judged by one rule, with what only the whole of their files shows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from guard.data.sources.formats import Record

_WORD = re.compile(r"\w+")
_GRAM = 3


def rule_posts(records: Iterable[Record]) -> Iterator[Record]:
    """Texts (`instance` or `gen_prompt`), each with the `rule` that it breaks or keeps.

    Adds `domain` (the part of its file, else the folder's name), `broken` (by the file's name, or the field `safe`),
    `instructed` (the text repeats one half a file above, or its file is named so: an instruction stands behind it) and,
    where the rule is kept, `overlap`: the largest share of the word 3-grams of a text breaking it that this text holds.
    """
    entries = [entry for _, group in groupby(records, key=lambda record: record.where) for entry in _file(list(group))]
    grams: dict[tuple[Any, ...], list[frozenset[str]]] = defaultdict(list)
    for entry in entries:
        if entry.fields["broken"]:
            grams[_of(entry)].append(_grams(entry.text("text")))
    for entry in entries:
        own = frozenset() if entry.fields["broken"] else _grams(entry.text("text"))
        shares = (len(own & other) / len(other) for other in grams[_of(entry)] if own and other)
        yield entry.adding(overlap=max(shares, default=0.0))


def plain_posts(records: Iterable[Record]) -> Iterator[Record]:
    """Those of `rule_posts` that have no instruction behind them."""
    return (record for record in rule_posts(records) if not record.fields["instructed"])


def _file(records: list[Record]) -> Iterator[Record]:
    """The records of one file, marked."""
    texts = [record.text("instance" if "instance" in record.fields else "gen_prompt") for record in records]
    half = len(texts) // 2
    for number, (record, text) in enumerate(zip(records, texts, strict=True)):
        path = PurePosixPath(record.where)
        repeats = number >= half and text.startswith(texts[number - half]) and text != texts[number - half]
        yield record.adding(
            text=text,
            domain=record.fields.get("part", path.parent.name),
            broken=not record.fields["safe"] if "safe" in record.fields else path.name.startswith("data_unsafe"),
            instructed=repeats or "_qi." in path.name,
        )


def _of(record: Record) -> tuple[Any, ...]:
    return record.text("domain"), record.text("category"), record.text("rule"), record.fields["instructed"]


def _grams(text: str) -> frozenset[str]:
    words = _WORD.findall(text.lower())
    return frozenset(" ".join(words[at : at + _GRAM]) for at in range(max(1, len(words) - _GRAM + 1)))
