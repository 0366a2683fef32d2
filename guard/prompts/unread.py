"""Letters that a vocabulary maps to its unknown token: text that a guard could not read.

Emoji, punctuation and other symbols are not letters, and nothing is lost where they are unknown. But Braille, letters
in circles or squares, and flags that spell words are symbols only by their Unicode category.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import TypeVar

# A window counts as read while no more of its letters than this share are unknown, or a single one: one rare letter in
# a paragraph changes little, a sentence in another script could say anything.
TOLERATED = 0.1
Place = TypeVar("Place")
_SPELLING = re.compile("BRAILLE PATTERN DOTS|LETTER [A-Z]$")  # names of symbols that people read as letters
_FIRST = 0x1F1E6  # REGIONAL INDICATOR SYMBOL LETTER A
# ISO 3166-1 alpha-2, and the other pairs that fonts draw a flag for.
_REGIONS = (
    "AC AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ "
    "CA CC CD CF CG CH CI CK CL CM CN CO CP CR CU CV CW CX CY CZ DE DG DJ DK DM DO DZ EA EC EE EG EH ER ES ET EU FI FJ "
    "FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU IC ID IE IL IM IN IO IQ IR "
    "IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM "
    "MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT "
    "PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC TD TF TG TH TJ TK TL "
    "TM TN TO TR TT TV TW TZ UA UG UM UN US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"
)
_FLAG = "|".join("".join(chr(_FIRST + ord(letter) - ord("A")) for letter in region) for region in _REGIONS.split())
_RUN_OF_FLAGS = f"(?<![\U0001f1e6-\U0001f1ff])(?:{_FLAG})+(?![\U0001f1e6-\U0001f1ff])"
_KEYCAP = "[0-9#*]\ufe0f?\u20e3"
_LETTER_EMOJI = "^[\u24c2\U0001f170\U0001f171\U0001f17e\U0001f17f]\ufe0f?$"  # a metro, blood groups, a parking place
_EMOJI = re.compile(f"{_RUN_OF_FLAGS}|{_KEYCAP}|{_LETTER_EMOJI}")


def unread(words: Mapping[Place, str], text: str) -> set[Place]:
    """The unknown words of a text that have letters; none if they are few enough to tolerate."""
    missed = {place: count for place, word in words.items() if (count := letters(word))}
    if not missed:
        return set()
    total, lost = sum(map(str.isalnum, text)), sum(missed.values())
    tolerated = max(1.0, TOLERATED * total) if lost < total else 0.0
    return set(missed) if lost > tolerated else set()


def letters(word: str) -> int:
    """Letters and digits of a word, emoji that hold some not counted."""
    return sum(char.isalnum() or _spells(char) for char in _EMOJI.sub("", word))


def _spells(char: str) -> bool:
    return unicodedata.category(char) == "So" and _SPELLING.search(unicodedata.name(char, "")) is not None
