"""Signs among letters: emoji, symbols and meaningless characters that separate words, or cut them.

To a reader they act as spaces; a tokenizer may merge them with adjacent letters into unknown tokens. A sign that
touches no letter stays, so that ordinary use of emoji makes no difference.
"""

from __future__ import annotations

import re
import unicodedata

from guard.views.segmentation import is_cut, ranks

# Of scripts that write spaces between words.
_LETTERS = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u058f\u1e00-\u1fff"
_SIGN, _FORMULA = "\u2800", "\u22c5"  # stand for every sign, and for every one that is common in formulas and names
_KINDS = {
    **dict.fromkeys(("So", "No", "Nl", "Me", "Co", "Cn", "Cs"), _SIGN),
    **dict.fromkeys(("Sm", "Sc", "Sk"), _FORMULA),
    **dict.fromkeys("©®°·•∙⋅", _FORMULA),
    **dict.fromkeys("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff", _SIGN),  # tones of skin
    **dict.fromkeys("€᙭"),  # stand for letters (guard.views.joining, guard.views.codes)
}
_KEYCAP = re.compile(f"(?<=[{_LETTERS}])[0-9#*]\u20e3|[0-9#*]\u20e3(?=[{_LETTERS}])")
_PARTING = re.compile(f"(?<=[{_LETTERS}])(?:(?!l{_FORMULA}l)[{_LETTERS}]){_FORMULA}++(?=[{_LETTERS}])")  # not col·lega
_RUN = re.compile(
    f"(?<![{_LETTERS}])[{_LETTERS}]++(?:[{_SIGN}{_FORMULA}]++[{_LETTERS}'’]++)++"
    f"|(?<=[{_LETTERS}]){_SIGN}++|(?<!{_SIGN}){_SIGN}++(?=[{_LETTERS}])"
)
_BETWEEN = re.compile(f"[{_SIGN}{_FORMULA}]+")
_APART = re.compile(rf"(?<=[{_LETTERS}]\s){_SIGN}++(?=\s[{_LETTERS}])")
_RUN_OR_APART = re.compile(f"{_RUN.pattern}|{_APART.pattern}")
_WORD = re.compile(f"[{_LETTERS}]+")
_FEWEST, _SHARE = 3, 1 / 3  # signs that are there to part words, and how many there are to a word: "File→Open" stays
_HIDDEN = "*"  # for a sign that may stand for a letter (guard.views.spelling)
_PIECE = 3  # letters of a word, on average at least


def without_signs(text: str) -> str:
    """The text with a space for the signs that touch a letter, and with nothing for those that cut a word."""
    text = _KEYCAP.sub(_SIGN, text)
    signs = {ord(letter): kind for letter in set(text) if not letter.isascii() and (kind := _kind(letter))}
    if not signs:
        return text
    shape = text.translate(signs)
    enough = max(_FEWEST, _SHARE * len(_WORD.findall(shape)))
    if len(_PARTING.findall(shape)) >= enough:
        shape = shape.replace(_FORMULA, _SIGN)
    pattern = _RUN_OR_APART if len(_APART.findall(shape)) >= enough else _RUN
    pieces, end = [], 0
    for match in pattern.finditer(shape):  # has one character for each of the text
        pieces += [text[end : match.start()], _parted(match[0]) or text[match.start() : match.end()]]
        end = match.end()
    return "".join(pieces) + text[end:]


def _kind(letter: str) -> str | None:
    """What stands for a character among letters, if it is a sign."""
    return _KINDS[letter] if letter in _KINDS else _KINDS.get(unicodedata.category(letter))


def _parted(run: str) -> str | None:
    """Letters and the signs among them as words; None if they may be a formula."""
    if _SIGN not in run:
        return None
    parts = _BETWEEN.split(run)
    whole = "".join(parts)
    if len(whole) == len(parts):  # b★o★m★b
        return whole if len(parts) > 2 or whole.lower() in ranks() else " ".join(parts)
    if is_cut(parts):
        return whole
    if not all(parts) or all(part.lower() in ranks() for part in parts):
        return " ".join(parts)
    if len(parts) == 2:
        return _HIDDEN.join(parts)
    return whole if len(whole) < _PIECE * len(parts) else " ".join(parts)  # ho★w★to★ma★ke
