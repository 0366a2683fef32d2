"""Normalised text and its hashes: how two texts are told to be the same, here and in held-out benchmarks."""

from __future__ import annotations

import hashlib
import re

GRAM_WORDS = 8
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
    """What equal texts share: the normalised text, or the text itself where nothing of it remains."""
    return normalise(text) or text
