"""Document context: a message embedded in machine text. A request inside a log or a table is still a request.

Text that is merely surrounded stays as it is. Inside a structure it is encoded as the structure requires: escaped, or
with a marker at the start of each line. Everything else is made up and harmless (see machine.py): labels stay.
"""

from __future__ import annotations

import html
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from guard.data.documents.machine import LOST, machine_text, text_of
from guard.data.documents.vocabulary import Pen

SHORTEST = 80  # characters of machine text on a side that has any
LONGEST = 600
_SEPARATORS = ("\n", "\n\n")


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure around a text: the genre before and after it, the opening and closing markup, and the encoding.

    `write` maps prefixes to prefixes (`write(text)` starts with `write(text[:n])`), by which spans are tracked.
    """

    genre: str
    frame: Callable[[Pen], tuple[str, str]]
    write: Callable[[str], str]


def _plain(text: str) -> str:
    return text


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _markup(text: str) -> str:
    return html.escape(text, quote=False)


def _cell(text: str) -> str:
    return text.replace('"', '""')


def _column(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


def _lines(mark: str) -> Callable[[str], str]:
    return lambda text: mark + text.replace("\n", "\n" + mark)


STRUCTURES: Mapping[str, Structure] = {
    "json": Structure("json", lambda pen: (f'{{"id": {pen.number(1, 9999)}, "{pen.noun()}": "', '"},'), _string),
    "html": Structure("html", lambda pen: (f'<p class="{pen.noun()}">', "</p>"), _markup),
    "xml": Structure("xml", lambda pen: (f'<note id="{pen.number(1, 999)}">', "</note>"), _markup),
    "mail": Structure("mail", lambda pen: (f"On {pen.date()}, {pen.name()} wrote:\n", ""), _lines("> ")),
    "log": Structure("log", lambda pen: (f"{pen.day()} {pen.time()},000 INFO [{pen.noun()}] body: ", ""), _plain),
    "csv": Structure("csv", lambda pen: (f'{pen.number(1, 5000)},{pen.date()},"', f'",{pen.money()}'), _cell),
    "markdown": Structure("markdown", lambda pen: (f"| {pen.title()} | ", f" | {pen.money()} |"), _column),
    "forum": Structure("forum", lambda pen: (f"[quote={pen.nick()}]", "[/quote]"), _plain),
    "chat": Structure("chat", lambda pen: (f"[{pen.clock()}] <{pen.nick()}> ", ""), _plain),
    "comment": Structure("python", lambda pen: ("", ""), _lines("# ")),
    "slashes": Structure("javascript", lambda pen: ("", ""), _lines("// ")),
    "string": Structure("python", lambda pen: (f'{pen.noun()} = "', '"'), _string),
    "commit": Structure("git_log", lambda pen: (f"commit {pen.hex(32)}\n\n", ""), _lines("    ")),
}
_NAMES = tuple(STRUCTURES)


def embed(text: str, span: tuple[int, int], rng: random.Random) -> tuple[str, tuple[int, int]]:
    """The text surrounded by machine text, or inside a structure, and the new position of the span."""
    if rng.random() < 0.5:
        return surround(text, span, rng)
    return enclose(text, span, STRUCTURES[rng.choice(_NAMES)], rng)


def surround(text: str, span: tuple[int, int], rng: random.Random) -> tuple[str, tuple[int, int]]:
    """The unchanged text after machine text, before it, or between two machine texts."""
    before, after = (machine_text(rng, length) for length in _lengths(rng))
    return _joined(before, ("", ""), _plain, after, text, span, rng)


def enclose(text: str, span: tuple[int, int], structure: Structure, rng: random.Random) -> tuple[str, tuple[int, int]]:
    """The text inside a structure, with more of the same genre before it, after it, or both."""
    before, after = (text_of(structure.genre, rng, length) for length in _lengths(rng))
    return _joined(before, structure.frame(Pen(rng)), structure.write, after, text, span, rng)


def _lengths(rng: random.Random) -> tuple[int, int]:
    sides = rng.choice(((1, 0), (0, 1), (1, 1)))
    first, second = (side * rng.randint(SHORTEST + LOST, LONGEST) for side in sides)
    return first, second


def _joined(
    before: str,
    frame: tuple[str, str],
    write: Callable[[str], str],
    after: str,
    text: str,
    span: tuple[int, int],
    rng: random.Random,
) -> tuple[str, tuple[int, int]]:
    separator = rng.choice(_SEPARATORS)
    head = (before + separator if before else "") + frame[0]
    tail = frame[1] + (separator + after if after else "")
    start, end = (len(head) + len(write(text[:at])) for at in span)
    return head + write(text) + tail, (start, end)
