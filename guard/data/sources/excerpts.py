"""Excerpts of technical texts as rows: as prompts and as answers, some with a message inside that their label is of.

The label follows from how a row is made: the texts are safe, and so are rows with a safe message inside; an unsafe
message makes its row unsafe. So neither the look of code nor a message in a comment tells the label.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

from guard.data.sources.formats import Record
from guard.data.sources.insertion import insert
from guard.data.sources.installed import repeats_licence

SHORTEST, LONGEST = 150, 6000  # characters of an excerpt; the logarithm of its length is uniform
LONGEST_AROUND = 2500  # ... around a message
MOST = 22  # excerpts of one package
MESSAGES = {("unsafe", False): 600, ("safe", False): 300, ("unsafe", True): 120, ("safe", True): 80}  # label, answered
_TRIES = 4  # excerpts of a file until one repeats no licence
_SECOND = 0.5  # the share of files of which there are two excerpts
_ASKED = 0.6  # the share of prompts with a question
_FORMS: Mapping[str, str] = {  # the list of wordings for a kind of file
    **dict.fromkeys(("python", "stub", "native", "web"), "code"),
    **dict.fromkeys(("manual", "metadata"), "docs"),
    "data": "data",
    "licence": "licence",
}
_MARKS: Mapping[str, str] = {
    **dict.fromkeys((".py", ".pyi", ".pyx", ".pxd"), "python"),
    **dict.fromkeys((".c", ".h", ".cc", ".cpp", ".hpp", ".cuh", ".cu", ".js", ".ts", ".css", ".proto"), "//"),
    **dict.fromkeys((".toml", ".yaml", ".yml", ".cfg", ".ini", ".cmake", ".build", ".sh"), "#"),
    ".json": "json",
    **dict.fromkeys((".html", ".xml", ".jinja", ".jinja2", ".svg"), "markup"),
}
Wordings = Mapping[str, Any]  # by use, and there by form of text: lists of questions; leads are one list
_ANY = 0.4  # the share of wordings that fit every text
_PATH = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Message:
    """A seed that is put into a text; `answer` is None unless the label is of the answer."""

    code: str
    label: str
    prompt: str
    answer: str | None = None


def installed_texts(records: Iterable[Record]) -> Iterator[Record]:
    """Seeds, then wordings, then installed files: `prompt`, `response` (null for prompts), `label` and `code`."""
    seeds: list[Record] = []
    wordings: Wordings = {}
    files: list[Record] = []
    for record in records:
        part = record.fields.get("part")
        if part == "seeds":
            seeds.append(record)
        elif part == "wordings":
            wordings = record.mapping("value")
        else:
            files.append(record)
    excerpts = list(_excerpts(files))
    rng = random.Random("installed texts")
    for number, found in enumerate(excerpts):
        make = _prompt if number % 2 else _answer
        yield make(found, wordings, rng)
    around = [found for found in excerpts if len(found.text("text")) <= LONGEST_AROUND]
    rng.shuffle(around)
    for found, message in zip(around, chosen(seeds, MESSAGES, rng), strict=False):
        yield _enclosed(found, message, rng)


def chosen(seeds: Iterable[Record], wanted: Mapping[tuple[str, bool], int], rng: random.Random) -> list[Message]:
    """As many messages as `wanted` of each label, with or without an answer; the categories take turns."""
    messages = list(messages_of(seeds))
    found: list[Message] = []
    for (label, answered), count in wanted.items():
        fitting = [one for one in messages if one.label == label and (one.answer is not None) == answered]
        found += by_turns(fitting, rng)[:count]
    rng.shuffle(found)
    return found


def messages_of(seeds: Iterable[Record]) -> Iterator[Message]:
    """Every prompt and every answer of files of seeds (see `seed_prompts` and `seed_responses`)."""
    for record in seeds:
        value = record.mapping("value")
        code = str(value.get("code"))
        for label in ("unsafe", "safe"):
            yield from (Message(code, label, text) for text in value.get(label) or ())
        for entry in value.get("responses") or ():
            yield Message(code, entry["label"], entry["prompt"], entry["response"])


def by_turns(messages: Sequence[Message], rng: random.Random) -> list[Message]:
    """The messages in random order, one of each category after the other."""
    by_code: dict[str, list[Message]] = {}
    for message in messages:
        by_code.setdefault(message.code, []).append(message)
    for listed in by_code.values():
        rng.shuffle(listed)
    return [message for turn in zip_longest(*by_code.values()) for message in turn if message is not None]


def _excerpts(files: Iterable[Record]) -> Iterator[Record]:
    """One or two excerpts of each file, up to MOST of a package, those that repeat no licence."""
    counts: dict[str, int] = {}
    for record in _kinds_by_turns(files):
        package = record.text("package")
        rng = random.Random(f"{record.where}")
        wanted = 2 if rng.random() < _SECOND else 1
        taken: set[str] = set()
        for _ in range(_TRIES * wanted):
            text = excerpt(record.text("text"), rng, LONGEST)
            if len(taken) == wanted or counts.get(package, 0) >= MOST:
                break
            if len(text) >= SHORTEST and text not in taken and not repeats_licence(text):
                taken.add(text)
                counts[package] = counts.get(package, 0) + 1
                yield replace(record, number=len(taken), fields={**record.fields, "text": text})


def _kinds_by_turns(files: Iterable[Record]) -> Iterator[Record]:
    """The files of each package, one of each kind after the other, so that no kind fills the package's share."""
    packages: dict[str, dict[str, list[Record]]] = {}
    for record in files:
        packages.setdefault(record.text("package"), {}).setdefault(record.text("kind"), []).append(record)
    for kinds in packages.values():
        yield from (record for record in chain.from_iterable(zip_longest(*kinds.values())) if record is not None)


def length_of(rng: random.Random, longest: int) -> int:
    """A length in characters whose logarithm is uniform."""
    return round(math.exp(rng.uniform(math.log(SHORTEST), math.log(longest))))


def excerpt(text: str, rng: random.Random, longest: int) -> str:
    """Some whole lines of a text, or all of it if it is short."""
    length = length_of(rng, longest)
    start = 0
    if rng.random() < 0.7 and len(text) > length:
        start = text.rfind("\n", 0, rng.randint(0, len(text) - length) + 1) + 1
    cut = text[start : start + length]
    end = cut.rfind("\n") if start + length < len(text) else len(cut)
    return cut[: end if end >= SHORTEST else len(cut)].strip("\n").rstrip()


def _wording(wordings: Wordings, use: str, record: Record, rng: random.Random) -> str:
    form = _FORMS[record.text("kind")]
    listed = wordings[use]["any" if rng.random() < _ANY else form]
    return _filled(rng.choice(listed), record)


def _filled(wording: str, record: Record) -> str:
    path = record.where.partition(": ")[2].rpartition(".")[0]
    topic = " ".join(word.lower() for word in _PATH.findall("/".join(path.split("/")[-2:])))
    values = {"file": record.text("file"), "package": record.text("package"), "topic": topic or record.text("file")}
    for name, value in values.items():
        wording = wording.replace(f"{{{name}}}", value)
    return wording


def _prompt(record: Record, wordings: Wordings, rng: random.Random) -> Record:
    text = record.text("text")
    if rng.random() < _ASKED:
        text = beside(_wording(wordings, "about", record, rng), text, rng)
    return _row(record, text, None, "safe", "benign")


def beside(question: str, text: str, rng: random.Random) -> str:
    """A question before or behind a text, which may be fenced."""
    text = rng.choice((text, text, f"```\n{text}\n```", f'"""\n{text}\n"""'))
    first, second = (question, text) if rng.random() < 0.6 else (text, question)
    return f"{first}{rng.choice((chr(10), chr(10) * 2))}{second}"


def _answer(record: Record, wordings: Wordings, rng: random.Random) -> Record:
    text = record.text("text")
    if _FORMS[record.text("kind")] == "code" and rng.random() < 0.6:
        text = f"```\n{text}\n```"
    lead = _filled(rng.choice(wordings["lead"]), record)
    return _row(record, _wording(wordings, "for", record, rng), f"{lead}\n{text}".strip(), "safe", "benign")


def _enclosed(record: Record, message: Message, rng: random.Random) -> Record:
    marks = _MARKS.get("." + record.text("file").rpartition(".")[2], "prose")
    text = insert(record.text("text"), message.answer or message.prompt, marks, rng)
    if message.answer is None:
        return _row(record, text, None, message.label, message.code)
    return _row(record, message.prompt, text, message.label, message.code)


def _row(record: Record, prompt: str, response: str | None, label: str, code: str) -> Record:
    return record.adding(prompt=prompt, response=response, label=label, code=code)
