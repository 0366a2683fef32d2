"""The rows of a described source: its raw files, read by the rules of its description."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from guard.conversation import ROLES, Role
from guard.data.ingest import own_row
from guard.data.ingest.fingerprint import text_key
from guard.data.ingest.labels import Labeller, label_of, meaning_of
from guard.data.ingest.own_row import Texts
from guard.data.row import UNKNOWN_LANGUAGE, Row, Rule
from guard.data.sources import description, formats, hub, installed
from guard.data.sources.description import Source
from guard.data.sources.fields import first, has, text_of, value_at
from guard.data.sources.formats import Record
from guard.data.sources.readers import READERS
from guard.errors import DataError, InvalidInput
from guard.policy import Policy
from guard.policy import crosswalk as crosswalks
from guard.policy.crosswalk import Crosswalk


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be parsed into a row: its location and the problem."""

    place: str
    problem: str


def records(source: Source, root: Path) -> Iterator[Record]:
    """The records of a source, after its named reader, each with the `language` and `part` of its file."""
    raw = hub.records(source, root) if source.hub else _raw_records(source, root)
    yield from READERS[source.reader](raw) if source.reader else raw


def _raw_records(source: Source, root: Path) -> Iterator[Record]:
    assert source.format is not None  # Source checks it
    folder = description.home(source, root)
    for file, path in description.paths(source, root):
        where = path.relative_to(folder).as_posix()
        added = {key: value for key, value in (("language", file.language), ("part", file.part)) if value is not None}
        read = formats.each if source.own else formats.read
        for record in read(path, where, file.format or source.format, source.at, source.encoding, source.undecodable):
            record.fields.update(added)
            yield record
    if source.installed is not None:
        yield from installed.records(source.installed)


def rows(source: Source, root: Path, table: Crosswalk | None, policy: Policy | None = None) -> Iterator[Row]:
    """The rows of a source in file order, repeats included and empty rows skipped; `table` is the source's crosswalk.

    Raises DataError at the first record that does not fit the description. Without a `policy`, codes in the data are
    not checked.
    """
    for row in each(source, root, table, policy):
        if isinstance(row, Broken):
            raise DataError(f"source {source.name}: {row.place}: {row.problem}")
        yield row


def each(source: Source, root: Path, table: Crosswalk | None, policy: Policy | None = None) -> Iterator[Row | Broken]:
    """Like `rows`, but a record that does not fit is yielded as Broken, and reading continues."""
    if table is not None and policy is not None:
        table = crosswalks.closed(table, policy)
    labeller = Labeller(source, table, None if policy is None else policy.codes)
    for record in records(source, root):
        try:
            if record.problem:
                raise InvalidInput(record.problem)
            row = _row(labeller, record)
        except (InvalidInput, DataError) as mistake:
            yield Broken(record.place, str(mistake))
            continue
        if row is not None:
            yield row


def _row(labeller: Labeller, record: Record) -> Row | None:
    source = labeller.source
    prompt, response, turns, rejected = (own_row.texts_of if source.own else _texts)(source, record)
    lacking = any(not str(value_at(record, name) or "").strip() for name in source.require)
    if not source.own and (lacking or not (prompt or response)):
        return None
    kind = ("prompt" if response is None else "response") if source.kind == "either" else source.kind
    meaning = meaning_of(labeller, record)
    label = label_of(labeller, record, meaning)
    if source.own and label == "safe" and meaning.codes and not (source.categories and source.categories.always):
        raise InvalidInput("a safe row violates no category; leave its categories out or change the label")
    return Row(
        source=source.name,
        kind=kind,
        prompt=prompt,
        response=response,
        label=label,
        categories=() if label == "safe" else meaning.codes or None,
        language=_language(source, record),
        groups=_groups(source, record),
        undecided=meaning.undecided if label == "unsafe" else (),
        rejected=rejected,
        turns=turns,
        place=record.place,
        given_id=_given_id(source, record),
        symbols=source.symbols,
        **_rule(source, record),
    )


def _rule(source: Source, record: Record) -> dict[str, Any]:
    """What a row of a rule says besides: the rule, whether an instruction stands behind the text, and its overlap."""
    fields = source.rule
    if fields is None:
        return {}
    named = [value_at(record, name) for name in (fields.domain, fields.name, fields.definition)]
    if not all(isinstance(value, str) and value.strip() for value in named):
        raise InvalidInput(
            f"`{fields.domain}`, `{fields.name}` and `{fields.definition}` must be texts that name a rule"
        )
    return {
        "rule": Rule(*(" ".join(value.split()) for value in named)),
        "instructed": bool(value_at(record, fields.instructed)),
        "overlap": float(value_at(record, fields.overlap) or 0.0),
    }


def _texts(source: Source, record: Record) -> Texts:
    """The texts of a record of a public source, without the white space around them."""
    turns = _turns(source, record)
    response = None
    if source.response and (source.kind != "either" or has(source.response, record)):
        response = text_of(source.response, record)
    if response is None and turns and turns[-1][0] == "assistant":
        *before, (_, response) = turns
        turns = tuple(before)
    if source.kind == "either":
        response = response or None
    rejected = text_of(source.rejected, record) if source.rejected else None
    prompt = text_of(source.prompt, record) if source.prompt else None
    if not turns:
        turns = (("user", prompt or ""),)  # before an answer there is a prompt, if only an empty one
    texts = Texts.of(turns, response, rejected)
    return texts if prompt in (None, texts.prompt) else Texts(prompt or "", response, turns, rejected)


def _turns(source: Source, record: Record) -> tuple[tuple[Role, str], ...]:
    if source.messages is None:
        return ()
    entries = value_at(record, source.messages)
    if entries in (None, "") and source.prompt is not None:
        return ()
    if not isinstance(entries, list) or not entries:
        raise InvalidInput(f"`{source.messages}` must be a list of objects with `role` and `content`")
    turns = []
    for index, entry in enumerate(entries):
        role, content = (entry.get("role"), entry.get("content")) if isinstance(entry, dict) else (None, None)
        if role not in ROLES or not isinstance(content, str):
            raise InvalidInput(
                f"`{source.messages}[{index}]` must have a text as `content` and a `role` of: {', '.join(ROLES)}"
            )
        turns.append((cast(Role, role), content.strip()))
    return tuple(turns)


def _given_id(source: Source, record: Record) -> str:
    value = None if source.id is None else value_at(record, source.id)
    return "" if value is None else str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _language(source: Source, record: Record) -> str:
    rule = source.language
    if isinstance(rule, str):
        return rule
    if rule is not None:
        value = value_at(record, rule.field)
        if value is not None:
            return rule.names.get(value, str(value).strip().lower()) or rule.otherwise or UNKNOWN_LANGUAGE
        if rule.otherwise is not None:
            return rule.otherwise
    language = record.fields.get("language")
    if not isinstance(language, str):
        raise InvalidInput("no language; give it for the source or the file")
    return language


def _groups(source: Source, record: Record) -> tuple[str, ...]:
    if source.group is None:
        return ()
    if source.own and all(value_at(record, name) in (None, "") for name in source.group.fields):
        return ()
    _, value = first(record, source.group.fields)
    if isinstance(value, list):
        value = value[0] if value else ""
    return (text_key(str(value)),) if source.group.across else (f"{source.name}\x00{value}",)
