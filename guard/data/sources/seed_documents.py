"""Generated documents as rows: harmless ones of many genres, and such with a seed inside, which their label is of."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping

from guard.data.documents import machine, operations, papers
from guard.data.sources.excerpts import LONGEST, LONGEST_AROUND, SHORTEST, beside, chosen, length_of
from guard.data.sources.formats import Record
from guard.data.sources.insertion import insert
from guard.errors import DataError

SAFE = 1000  # documents without a seed
MESSAGES = {("unsafe", False): 300, ("safe", False): 200}  # seeds inside documents
_ASKED = 0.5  # the share of documents with a question
_THIN = 3  # times as many documents of the genres of which other sources have few
_GENRES = (
    *machine.GENRES,
    *(genre.__name__ for genre in (*operations.GENRES, *papers.GENRES) for _ in range(_THIN - 1)),
)
_MARKS: Mapping[str, str] = {
    "python": "python",
    "json": "json",
    **dict.fromkeys(("dockerfile", "script", "nginx", "unit", "manifest", "config", "shell"), "#"),
    **dict.fromkeys(("c", "javascript", "java", "rust"), "//"),
    **dict.fromkeys(("sql", "statements"), "--"),
    **dict.fromkeys(("html", "xml"), "markup"),
}
_FORMS: Mapping[str, str] = {
    **dict.fromkeys(("python", "c", "javascript", "java", "rust", "sql", "statements", "script", "dockerfile"), "code"),
    **dict.fromkeys(("config", "json", "xml", "csv", "nginx", "unit", "manifest"), "data"),
    **dict.fromkeys(("licence", "terms"), "licence"),
}


def seed_documents(records: Iterable[Record]) -> Iterator[Record]:
    """Seeds and wordings, as files of the parts of these names: one record per document."""
    seeds = []
    questions: Mapping[str, list[str]] = {}
    for record in records:
        if record.fields.get("part") == "wordings":
            listed = record.mapping("value")["about"]
            questions = {form: [text for text in texts if "{" not in text] for form, texts in listed.items()}
        else:
            record.mapping("value")  # an error names the first record that is no seeds
            seeds.append(record)
    if "any" not in questions:
        raise DataError("seed_documents: none of its files has wordings of questions about any text")
    rng = random.Random("seed documents")
    for number in range(SAFE):
        genre, text = _document(number, rng, LONGEST)
        if rng.random() < _ASKED:
            form = "any" if rng.random() < 0.5 else _FORMS.get(genre, "docs")
            text = beside(rng.choice(questions[form]), text, rng)
        yield _row(genre, number, text, "safe", "benign")
    for number, message in enumerate(chosen(seeds, MESSAGES, rng), SAFE):
        genre, text = _document(number, rng, LONGEST_AROUND)
        text = insert(text, message.prompt, _MARKS.get(genre, "prose"), rng)
        yield _row(genre, number, text, message.label, message.code)


def _document(number: int, rng: random.Random, longest: int) -> tuple[str, str]:
    genre = _GENRES[number % len(_GENRES)]
    return genre, machine.text_of(genre, rng, max(length_of(rng, longest), SHORTEST + machine.LOST))


def _row(genre: str, number: int, prompt: str, label: str, code: str) -> Record:
    fields = {"prompt": prompt, "label": label, "code": code}
    return Record(fields, f"generated {genre}", number + 1)
