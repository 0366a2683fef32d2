"""Canonical views of a text: what a disguised text says to a human reader.

A guard scores them beside the text itself and takes the worst. Ordinary text has none and costs little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from guard.views.folding import hidden, ordinary, plainest, secret
from guard.views.joining import joined
from guard.views.payloads import decoded
from guard.views.spelling import corrected

Name = Literal["folded", "hidden", "decoded", "joined", "corrected"]
MOST = 4
_STEPS: tuple[Name, ...] = ("decoded", "joined", "decoded", "corrected")
_REWRITTEN: Mapping[Name, Callable[[str], str]] = {"joined": joined, "corrected": corrected}
_CONSTANT = 2000  # characters that all views together may have beyond twice the text's
_SHARES = 3  # views that must fit where one of them covers only some lines; see `_lines`


@dataclass(frozen=True, slots=True)
class View:
    """A decoded form of a text. `start` and `end`: the range of the raw text that the view changes, as exactly as is
    known: for payloads and hidden text from the first to the last, else the whole text."""

    name: Name
    text: str = field(repr=False)
    start: int
    end: int


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


def views(text: str) -> tuple[View, ...]:
    """At most `MOST` views that differ from the text and from one another by more than case, space and typography.

    Each step continues from the one before: folded text is decoded, then joined, then decoded once more, and finally
    its typing errors are corrected. If there is not room for all (together at most twice the text's length and a
    constant), the later ones are kept, and what they leave out stays in another: no disguise can mask a second one.
    """
    plain = ordinary(text)
    plainer = plain if plain.isascii() and plain.isprintable() else plainest(plain)
    room = 2 * len(text) + _CONSTANT
    covert = _covert(text, _SHARES * len(text) <= room)
    short = _SHARES * max(len(plainer), *(len(view.text) for view in covert), 0) <= room
    alone, chain = _chain(text, plainer, "folded", short)
    if not chain and not covert:
        return ()
    candidates = [*alone, *covert[:-1], *chain[:-1], *covert[-1:], *chain[-1:]]  # the last of each say most
    seen = {_key(plain)}
    kept: list[View] = []
    for view in reversed(candidates):
        form = _key(view.text)
        if form and form not in seen and len(kept) < MOST and len(view.text) <= room:
            kept.append(view)
            seen.add(form)
            room -= len(view.text)
    return tuple(reversed(kept))


def plainest_view(text: str) -> str:
    """The view with most disguise removed; the text itself if it has none."""
    all_views = views(text)
    return all_views[-1].text if all_views else text


def _chain(raw: str, text: str, name: Name, short: bool) -> tuple[list[View], list[View]]:
    """The views that start from one form of the raw text: its payloads alone, and all others.

    short: payloads are shown with their lines, else with the whole text.
    """
    whole = (0, len(raw))
    alone: list[View] = []
    chain = [View(name, text, *whole)] if text != raw else []
    settled = False
    for step in _STEPS:
        if step in _REWRITTEN:
            rewritten = _REWRITTEN[step](text)
            settled = rewritten == text
            if not settled:
                text = rewritten
                chain.append(View(step, text, *whole))
        elif not settled and (payloads := decoded(text)):
            place = (payloads.before, len(raw) - payloads.after) if text == raw else whole
            text = payloads.text
            alone.append(View("decoded", payloads.alone, *place))
            lines = _lines(text, payloads.before, len(text) - payloads.after) if short else slice(None)
            chain.append(View("decoded", text[lines], *place))
    return alone, chain


def _covert(raw: str, short: bool) -> list[View]:
    """The views that start from text hidden in invisible characters, the fullest last."""
    place = secret(raw)
    if place is None:
        return []
    text = hidden(raw[_lines(raw, *place)] if short else raw)
    if not text:
        return []
    alone, chain = _chain(raw, text, "hidden", short=False)
    return [dataclasses.replace(view, start=place[0], end=place[1]) for view in (*alone, *chain)]


def _lines(text: str, start: int, end: int) -> slice:
    """The lines that hold these places and all between them.

    A payload often stands below a request to decode it, which is suspicious by itself and dilutes the payload: read
    together, more safe payloads are flagged and fewer unsafe ones. Only in a short text is there room to read a part
    and the rest, too; a long one is parted by windows.
    """
    after = text.find("\n", end)
    return slice(text.rfind("\n", 0, start) + 1, len(text) if after < 0 else after)
