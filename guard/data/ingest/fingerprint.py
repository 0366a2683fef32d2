"""Normalised text and its hashes: what makes two texts, or two rows, the same here and in held-out benchmarks."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from guard.data.row import Row, Rule

GRAM_WORDS = 8
_SYMBOLS = ("So", "Sk")  # Unicode categories: emoji and their modifiers
_NOT_WORD = re.compile(r"[^\w]+")


def normalise(text: str) -> str:
    """Lower case, each run of anything but letters, numbers and the underscore as one space, none at the ends."""
    return _NOT_WORD.sub(" ", text.lower()).strip(" ")


def digest(normalised: str) -> str:
    """The first 16 hex digits of the SHA-256 of a normalised text."""
    return hashlib.sha256(normalised.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def grams(normalised: str) -> set[str]:
    """The distinct runs of 8 words of a normalised text; none if it has fewer."""
    words = normalised.split(" ")
    return {" ".join(words[start : start + GRAM_WORDS]) for start in range(len(words) - GRAM_WORDS + 1)}


def text_key(text: str) -> str:
    """The key of equal texts: the normalised text, or the text itself where normalising leaves nothing."""
    return normalise(text) or text


def hash64(*parts: str | None) -> int:
    """The first 64 bits of the SHA-256 of the parts; None differs from every text."""
    joined = "\x00".join("\x01" if part is None else part for part in parts)
    return int.from_bytes(hashlib.sha256(joined.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def repeat_key(row: Row) -> int:
    """The key of repeats within one source: the texts, the label and the language, exactly as read."""
    return hash64(row.prompt, row.response, row.rejected, row.label, row.language)


def duplicate_key(row: Row) -> int:
    """The key of duplicates across sources, whatever their labels: the normalised texts, the kind and the rule."""
    texts = (row.prompt, row.response, row.rejected)
    of_rule = () if row.rule is None else (row.rule.domain, row.rule.definition)
    emoji = [mark for mark in row.judged if unicodedata.category(mark) in _SYMBOLS] if row.symbols else []
    return hash64(row.kind, *(None if text is None else text_key(text) for text in texts), *of_rule, *emoji)


def rule_key(rule: Rule | None) -> int:
    """The key of a rule, 0 where there is none."""
    return 0 if rule is None else hash64(rule.domain, rule.name, rule.definition)
