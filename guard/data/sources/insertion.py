"""Insertion: a message inside a technical text, where people leave them: comments, strings, notes, tickets, logs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping

Writer = Callable[[str, random.Random], str]
AROUND = 0.25  # the share of messages that stand before or after the whole text, as in a ticket or a commit
_NAMES = ("Ada", "Bruno", "Carla", "Elif", "Hugo", "Keiko", "Leila", "Marco", "Nils", "Priya", "Ruth", "Tomas", "Yusuf")
_TAGS = ("TODO", "FIXME", "NOTE", "XXX", "HACK", "Question", "Review", "todo")
_FIELDS = ("comment", "note", "text", "message", "prompt", "body", "query", "description", "title", "user_input")


def insert(text: str, message: str, marks: str, rng: random.Random) -> str:
    """The text with the message on lines of its own, at a random line or around the whole.

    marks: how the language of the text writes comments, a key of WRITERS.
    """
    if rng.random() < AROUND:
        parts = _filled(rng.choice(_AROUND), rng).split("TEXT")
        return text.join(part.replace("MESSAGE", message) for part in parts)
    lines = text.split("\n")
    at = rng.randint(0, len(lines))
    following = lines[at] if at < len(lines) else ""
    indent = following[: len(following) - len(following.lstrip())]
    written = rng.choice(WRITERS[marks])(message, rng)
    return "\n".join([*lines[:at], *(indent + line for line in written.split("\n")), *lines[at:]])


def _comment(mark: str, tagged: bool = False) -> Writer:
    def write(message: str, rng: random.Random) -> str:
        tag = f"{rng.choice(_TAGS)}{rng.choice(('', f'({rng.choice(_NAMES).lower()})'))}: " if tagged else ""
        return mark + (tag + message).replace("\n", "\n" + mark)

    return write


def _frame(frame: str, encode: Callable[[str], str] = str) -> Writer:
    return lambda message, rng: _filled(frame, rng).replace("MESSAGE", encode(message))


def _filled(frame: str, rng: random.Random) -> str:
    """A frame with made-up values for the words in capitals, except those of the message and the text."""
    values = {
        "NAME": rng.choice(_NAMES),
        "FIELD": rng.choice(_FIELDS),
        "NUMBER": str(rng.randint(100, 99999)),
        "HASH": f"{rng.getrandbits(160):040x}",
        "DATE": f"20{rng.randint(10, 25)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
    }
    for word, value in values.items():
        frame = frame.replace(word, value)
    return frame


def _string(frame: str) -> Writer:
    return _frame(frame, lambda message: json.dumps(message, ensure_ascii=False))


WRITERS: Mapping[str, tuple[Writer, ...]] = {
    "#": (
        _comment("# "),
        _comment("# ", tagged=True),
        _comment("## "),
        _string("FIELD = MESSAGE"),
        _string("FIELD: MESSAGE"),
    ),
    "python": (
        _comment("# "),
        _comment("# ", tagged=True),
        _frame('"""MESSAGE"""'),
        _frame('"""NAME asks:\n\nMESSAGE\n"""'),
        _string("FIELD = MESSAGE"),
        _string("print(MESSAGE)"),
        _string("logger.info(MESSAGE)"),
        _string('cases.append({"FIELD": MESSAGE})'),
        _frame(">>> ask('MESSAGE')"),
    ),
    "//": (
        _comment("// "),
        _comment("// ", tagged=True),
        _frame("/* MESSAGE */"),
        _frame("/**\n * MESSAGE\n */"),
        _string("const FIELD = MESSAGE;"),
        _string("log(MESSAGE);"),
    ),
    "--": (_comment("-- "), _comment("-- ", tagged=True), _frame("/* MESSAGE */")),
    "json": (_string('"FIELD": MESSAGE,'), _string('{"id": NUMBER, "FIELD": MESSAGE},'), _comment("// ")),
    "markup": (
        _frame("<!-- MESSAGE -->"),
        _frame("<p>MESSAGE</p>"),
        _frame('<li id="NUMBER">MESSAGE</li>'),
        _frame('<td class="FIELD">MESSAGE</td>'),
    ),
    "prose": (
        _frame("MESSAGE"),
        _frame("\nMESSAGE\n"),
        _comment("> "),
        _comment("- "),
        _comment("* "),
        _frame("NUMBER. MESSAGE"),
        _frame("Q: MESSAGE"),
        _frame("NAME: MESSAGE"),
        _frame("Comment by NAME:\nMESSAGE"),
        _frame("| NUMBER | MESSAGE | open |"),
        _frame('NAME wrote: "MESSAGE"'),
        _comment("", tagged=True),
    ),
}
_AROUND = (
    "commit HASH\nAuthor: NAME <name@example.org>\nDate:   DATE\n\n    MESSAGE\n\nTEXT",
    "Ticket #NUMBER, opened DATE by NAME\nMESSAGE\n\nAttachment:\nTEXT",
    "Ticket #NUMBER\nAttachment:\nTEXT\n\nNAME, DATE: MESSAGE",
    "[DATE 09:14] NAME: MESSAGE\nTEXT",
    "TEXT\n\nReview by NAME: MESSAGE",
    "FIELD: MESSAGE\n\n---\nTEXT\n---",
    "Subject: [NUMBER] patch\nFrom: NAME\n\n> MESSAGE\n\nTEXT",
    "```\nTEXT\n```\n\nMESSAGE",
    "MESSAGE\n\n```\nTEXT\n```",
    "DATE INFO request NUMBER FIELD=MESSAGE\nTEXT\nDATE INFO request NUMBER done",
)
