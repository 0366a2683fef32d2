"""Named readers for data sets of the Hugging Face Hub, of the same type as those of `guard.data.sources.readers`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from guard.data.sources.formats import Record

_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_REDACTED = "REDACTED"
_PRESENT = 0.5  # share of raters from which a comment has an attribute
_ABSENT = 0.2  # ... and up to which it has not


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def nulls_as_blank(records: Iterable[Record]) -> Iterator[Record]:
    """Null fields as empty texts, so that a rule can list a missing label or require a response."""
    for record in records:
        yield replace(record, fields={name: "" if value is None else value for name, value in record.fields.items()})


def without_redacted(records: Iterable[Record]) -> Iterator[Record]:
    """Like `nulls_as_blank`, without the records whose `prompt` the publisher redacted."""
    for record in nulls_as_blank(records):
        if str(record.fields.get("prompt", "")).strip() != _REDACTED:
            yield record


def rated_answers(records: Iterable[Record]) -> Iterator[Record]:
    """Prompts with two rated responses: two records, `response` with its `is_safe` and `harm_category`."""
    for record in records:
        for side in ("0", "1"):
            yield record.adding(
                response=record.fields.get(f"response_{side}"),
                is_safe=record.fields.get(f"is_response_{side}_safe"),
                harm_category=record.fields.get(f"response_{side}_harm_category"),
            )


def safer_answer(records: Iterable[Record]) -> Iterator[Record]:
    """Prompts with two responses as pairs: `chosen` is that of `safer_response_id`; records without it are skipped."""
    for record in records:
        safer = str(record.fields.get("safer_response_id"))
        if safer in ("0", "1"):
            other = {"0": "1", "1": "0"}[safer]
            yield record.adding(
                chosen=record.fields.get(f"response_{safer}"), rejected=record.fields.get(f"response_{other}")
            )


def answered_transcripts(records: Iterable[Record]) -> Iterator[Record]:
    """Dialogues in the form `Human: ... Assistant: ...`: `turns` up to the last response; others are skipped."""
    for record in records:
        transcript = record.fields.get("transcript")
        if not isinstance(transcript, str):
            yield record  # the description reports the missing turns, with the location
            continue
        turns = dialogue_turns(transcript)
        while turns and (turns[-1]["role"] != "assistant" or not turns[-1]["content"]):
            turns.pop()
        if turns:
            yield record.adding(turns=turns)


def dialogue_turns(text: str) -> list[dict[str, str]]:
    """The turns of a dialogue; each begins with `Human:` or `Assistant:` at the start or after a blank line."""
    pieces = _SPEAKER.split(text)
    return [
        {"role": "user" if speaker == "Human" else "assistant", "content": content.strip()}
        for speaker, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def vanilla_or_adversarial(records: Iterable[Record]) -> Iterator[Record]:
    """Prompts in a plain and perhaps an adversarial form: `prompt` is the adversarial one if there is one."""
    for record in records:
        plain, adversarial = record.fields.get("vanilla"), record.fields.get("adversarial")
        yield record.adding(
            prompt=plain if _blank(adversarial) else adversarial, vanilla="" if plain is None else plain
        )


def listed_categories(records: Iterable[Record]) -> Iterator[Record]:
    """Like `nulls_as_blank`, with the two columns of category codes as lists; `None` is an empty list."""
    for record in nulls_as_blank(records):
        yield record.adding(**{f"{part}_safety_categories": _codes(record, part) for part in ("prompt", "response")})


def _codes(record: Record, part: str) -> list[str]:
    """Codes separated by commas or spaces: publishers of such columns use both."""
    codes = re.split(r"[,\s]+", str(record.fields.get(f"{part}_safety_categories", "")))
    return [code for code in codes if code and code.lower() not in ("none", "nan", "safe")]


def rated_comments(records: Iterable[Record]) -> Iterator[Record]:
    """Comments with shares of raters; three of the shares become flags: true, false, or None if raters disagree."""
    for record in records:
        yield record.adding(**{name: _share(record, name) for name in ("threat", "identity_attack", "sexual_explicit")})


def _share(record: Record, name: str) -> bool | None:
    try:
        share = float(str(record.fields.get(name)))
    except ValueError:
        return None
    return True if share >= _PRESENT else False if share <= _ABSENT else None


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
