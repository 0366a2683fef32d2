"""Text cleaning: Unicode repair, and the reasons to drop a text: empty, too short, too long, unreadable, repetitive."""

from __future__ import annotations

import dataclasses
import functools
import re
import zlib
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from guard import schema
from guard.data.row import Row
from guard.errors import need

EMPTY, TOO_SHORT, TOO_LONG = "empty", "too short", "too long"
OVERLAP = "repeats a violating text"
NO_WORDS, UNREADABLE, REPETITIVE = "no words", "unreadable", "repetitive"
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = re.compile(r"[\x20-\x7e\n]*")  # nothing to repair, except where an ampersand may start an HTML entity
_MIN_COMPRESSIBLE = 400  # characters from which the compression ratio is meaningful


@dataclass(frozen=True, slots=True)
class Cleaning:
    """How a build cleans texts. Lengths are in characters of the judged text.

    repair: fix mojibake, HTML entities, control characters and line ends, and compose characters (NFC); look-alike
    letters, widths, quotes and invisible characters stay, because attacks are made of them. replaced: the share of
    characters lost in decoding from which a text is unreadable. packed: the zlib compression ratio below which it is
    repetitive. overlap: the share of the word 3-grams of a text that breaks a rule from which a text that is said to
    keep the rule is dropped, because it may be the same text with a disclaimer.
    """

    __pydantic_config__ = schema.STRICT

    repair: bool = True
    shortest: PositiveInt = 2
    longest: PositiveInt = 50_000
    replaced: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    packed: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.02
    overlap: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    identify_languages: bool = True


def clean(row: Row, cleaning: Cleaning) -> tuple[Row, str | None]:
    """The row with clean texts, and the reason to drop it, None if it is usable."""
    repair = _repair if cleaning.repair else _strip
    changed = dataclasses.replace(
        row,
        prompt=repair(row.prompt),
        response=None if row.response is None else repair(row.response),
        rejected=None if row.rejected is None else repair(row.rejected),
        turns=tuple((role, repair(content)) for role, content in row.turns),
    )
    if row.overlap >= cleaning.overlap:
        return changed, OVERLAP
    texts = [changed.judged, *(() if changed.rejected is None else (changed.rejected,))]
    return changed, next((reason for text in texts if (reason := _rejection(text, cleaning, row.symbols))), None)


def _rejection(text: str, cleaning: Cleaning, wordless: bool) -> str | None:
    if not text:
        return EMPTY
    if len(text) < cleaning.shortest:
        return TOO_SHORT
    if len(text) > cleaning.longest:
        return TOO_LONG
    if not wordless and not any(map(str.isalnum, text)):
        return NO_WORDS
    if text.count("\ufffd") >= cleaning.replaced * len(text):
        return UNREADABLE
    if len(text) >= _MIN_COMPRESSIBLE and _compression_ratio(text) < cleaning.packed:
        return REPETITIVE
    return None


def _compression_ratio(text: str) -> float:
    raw = text.encode()
    return len(zlib.compress(raw, 1)) / len(raw)


def _strip(text: str) -> str:
    """The text without outer white space, lone surrogates replaced by U+FFFD, so that it always encodes as UTF-8."""
    return _SURROGATE.sub("\ufffd", text).strip()


def _repair(text: str) -> str:
    if _PLAIN.fullmatch(text) and "&" not in text:
        return text.strip()
    fix, settings = _fixer()
    return _strip(str(fix(_SURROGATE.sub("\ufffd", text), settings)))


@functools.cache
def _fixer() -> tuple[Any, Any]:
    ftfy = need("ftfy", "data")
    settings = ftfy.TextFixerConfig(
        uncurl_quotes=False, fix_character_width=False, fix_latin_ligatures=False, explain=False, normalization="NFC"
    )
    return ftfy.fix_text, settings
