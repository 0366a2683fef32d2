"""Readers of the seeds, which are written by hand and ship with guard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from guard.data.sources.formats import Record
from guard.errors import DataError


def seed_prompts(records: Iterable[Record]) -> Iterator[Record]:
    """`{code, unsafe: [...], safe: [...]}`: one record per prompt."""
    for record in records:
        value = record.mapping("value")
        texts = [(text, label) for label in ("unsafe", "safe") for text in value.get(label) or ()]
        for number, (text, label) in enumerate(texts, 1):
            yield replace(record, number=number, fields={"prompt": text, "label": label, "code": value.get("code")})


def seed_responses(records: Iterable[Record]) -> Iterator[Record]:
    """`{code, responses: [{prompt, response, label}, ...]}`: one record per response; a file may have none."""
    for record in records:
        value = record.mapping("value")
        for number, entry in enumerate(value.get("responses") or (), 1):
            yield record.entry(number, entry).adding(code=value.get("code"))


def seed_twins_prompts(records: Iterable[Record]) -> Iterator[Record]:
    """`{language, twins: [[code, unsafe, safe], ...], safe: [...]}`: one record per prompt, with its `language`."""
    for record in records:
        value = record.mapping("value")
        language = _seed_language(record, value)
        texts: list[tuple[str, str, str]] = []
        for number, twin in enumerate(value.get("twins") or (), 1):
            if not (isinstance(twin, list) and len(twin) == 3 and all(isinstance(text, str) for text in twin)):
                raise DataError(f"{record.place}: entry {number} of `twins` must be three texts: [code, unsafe, safe]")
            code, unsafe, safe = twin
            texts += [(code, "unsafe", unsafe), (code, "safe", safe)]
        texts += [("benign", "safe", text) for text in value.get("safe") or ()]
        for number, (code, label, text) in enumerate(texts, 1):
            fields = {"prompt": text, "label": label, "code": code, "language": language}
            yield replace(record, number=number, fields=fields)


def seed_twins_responses(records: Iterable[Record]) -> Iterator[Record]:
    """`{language, responses: [{code, prompt, response, label}, ...]}`: one record per response, if there are any."""
    for record in records:
        value = record.mapping("value")
        language = _seed_language(record, value)
        for number, entry in enumerate(value.get("responses") or (), 1):
            yield record.entry(number, entry).adding(language=language)


def seed_policies(records: Iterable[Record]) -> Iterator[Record]:
    """`[{domain, name, definition, unsafe: [...], safe: [...]}, ...]`: one record per text, with what `rule_posts` adds
    to texts that are judged by one rule."""
    for record in records:
        number = 0
        for place, entry in enumerate(record.sequence("value"), 1):
            rule = record.entry(place, entry)
            about = {key: rule.text(key) for key in ("domain", "name", "definition")}
            for label in ("unsafe", "safe"):
                for text in rule.sequence(label):
                    number += 1
                    marks = {"broken": label == "unsafe", "instructed": False, "overlap": 0.0}
                    yield replace(rule, number=number, fields={"text": text, **about, **marks})


def _seed_language(record: Record, value: dict[str, object]) -> str:
    language = value.get("language")
    if not (isinstance(language, str) and re.fullmatch("[a-z]{2,3}", language)):
        raise DataError(f"{record.place}: `language` must be an ISO 639 code such as de, for all texts of the file")
    return language


SEED_READERS: dict[str, Callable[[Iterable[Record]], Iterator[Record]]] = {
    reader.__name__: reader
    for reader in (seed_prompts, seed_responses, seed_twins_prompts, seed_twins_responses, seed_policies)
}
