"""Named readers for data sets of the Hugging Face Hub, in the same shape as those of `guard.data.sources.readers`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from guard.data.sources.formats import Record

_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_REDACTED = "REDACTED"
_SURE = 0.5  # share of raters from which a comment has a property
_FREE = 0.2  # ... and up to which it has not


def _with(record: Record, **fields: Any) -> Record:
    return replace(record, fields={**record.fields, **fields})


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def nulls_as_blank(records: Iterable[Record]) -> Iterator[Record]:
    """Fields without a value as empty text, so that a missing label can be listed and a missing answer required."""
    for record in records:
        yield replace(record, fields={name: "" if value is None else value for name, value in record.fields.items()})


def without_redacted(records: Iterable[Record]) -> Iterator[Record]:
    """Like `nulls_as_blank`, without the records whose `prompt` the publisher took out."""
    for record in nulls_as_blank(records):
        if str(record.fields.get("prompt", "")).strip() != _REDACTED:
            yield record


def rated_answers(records: Iterable[Record]) -> Iterator[Record]:
    """Prompts with two rated answers: two records, `response` with its `is_safe` and `harm_category`."""
    for record in records:
        for side in ("0", "1"):
            yield _with(
                record,
                response=record.fields.get(f"response_{side}"),
                is_safe=record.fields.get(f"is_response_{side}_safe"),
                harm_category=record.fields.get(f"response_{side}_harm_category"),
            )


def safer_answer(records: Iterable[Record]) -> Iterator[Record]:
    """Prompts with two answers as pairs: `chosen` is the one of `safer_response_id`. Without one it is no pair."""
    for record in records:
        safer = str(record.fields.get("safer_response_id"))
        if safer in ("0", "1"):
            other = {"0": "1", "1": "0"}[safer]
            yield _with(
                record, chosen=record.fields.get(f"response_{safer}"), rejected=record.fields.get(f"response_{other}")
            )


def answered_transcripts(records: Iterable[Record]) -> Iterator[Record]:
    """Dialogues framed as `Human: ... Assistant: ...`: `turns` up to the last answer; those without one are out."""
    for record in records:
        transcript = record.fields.get("transcript")
        if not isinstance(transcript, str):
            yield record  # the description finds no turns, and tells where
            continue
        turns = dialogue_turns(transcript)
        while turns and (turns[-1]["role"] != "assistant" or not turns[-1]["content"]):
            turns.pop()
        if turns:
            yield _with(record, turns=turns)


def dialogue_turns(text: str) -> list[dict[str, str]]:
    """The turns of a dialogue, each from `Human:` or `Assistant:` at the start or after a blank line to the next."""
    pieces = _SPEAKER.split(text)
    return [
        {"role": "user" if speaker == "Human" else "assistant", "content": content.strip()}
        for speaker, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def vanilla_or_adversarial(records: Iterable[Record]) -> Iterator[Record]:
    """Prompts in a plain and, where there is one, an adversarial form: `prompt` is the latter, else the former."""
    for record in records:
        plain, adversarial = record.fields.get("vanilla"), record.fields.get("adversarial")
        yield _with(
            record, prompt=plain if _blank(adversarial) else adversarial, vanilla="" if plain is None else plain
        )


def listed_categories(records: Iterable[Record]) -> Iterator[Record]:
    """Like `nulls_as_blank`, with the two columns of category codes as lists: `None` is none of them."""
    for record in nulls_as_blank(records):
        yield _with(record, **{f"{part}_safety_categories": _codes(record, part) for part in ("prompt", "response")})


def _codes(record: Record, part: str) -> list[str]:
    """Codes parted by commas or spaces: publishers of this kind of column are not of one mind."""
    codes = re.split(r"[,\s]+", str(record.fields.get(f"{part}_safety_categories", "")))
    return [code for code in codes if code and code.lower() not in ("none", "nan", "safe")]


def rated_comments(records: Iterable[Record]) -> Iterator[Record]:
    """Comments with shares of raters; three of the shares become flags: yes, no, or None where the raters disagree."""
    for record in records:
        yield _with(record, **{name: _share(record, name) for name in ("threat", "identity_attack", "sexual_explicit")})


def _share(record: Record, name: str) -> bool | None:
    try:
        share = float(str(record.fields.get(name)))
    except ValueError:
        return None
    return True if share >= _SURE else False if share <= _FREE else None


HUB_READERS: dict[str, Callable[[Iterable[Record]], Iterator[Record]]] = {
    reader.__name__: reader
    for reader in (
        nulls_as_blank,
        without_redacted,
        rated_answers,
        safer_answer,
        answered_transcripts,
        vanilla_or_adversarial,
        listed_categories,
        rated_comments,
    )
}
