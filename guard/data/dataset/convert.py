"""Conversion of labelled rows: from any format that is read to guard's own, and to those of trainers.

jsonl       {"id", "prompt", "response"? | "messages", "label", "categories"?, …}; a pair has "chosen", "rejected"
parquet     the columns of a build
chat        {"prompt": messages, "completion": [the verdict under the policy]}
kto         {"prompt", "completion", "label"} of responses, of which the safe ones are desirable
preference  {"prompt", "chosen", "rejected"} of pairs
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from guard.conversation import Message
from guard.data.build import manifest
from guard.data.build import write as store
from guard.data.dataset.open import columns, open_dataset
from guard.data.ingest import source_rows
from guard.data.ingest.source_rows import Broken
from guard.data.ingest.user_description import BrokenRows, Described, describe
from guard.data.ingest.user_rows import conversation_of
from guard.data.row import UNKNOWN_LANGUAGE, Row
from guard.data.sources import formats
from guard.data.sources.folders import ALL
from guard.data.sources.user_files import Mapping, of_file
from guard.errors import ConfigError, DataError, InvalidInput, need
from guard.jobs.atomic import atomic
from guard.policy import Policy
from guard.prompts.grammar import write

Target = Literal["jsonl", "parquet", "chat", "kto", "preference"]
TARGETS: tuple[Target, ...] = get_args(Target)
GROUP = 5000  # rows that are written together
_LINES, _PARQUET = (".jsonl", ".ndjson"), ".parquet"
_EXAMPLE = {"messages", "label", "categories", "categories_known", "source", "licence"}
_PAIR = {"prompt", "chosen", "rejected", "source", "licence", "cluster"}
# A row as a build stores it: the columns of `store.features`, or of a pair those of `store.pair_features`.
Stored = dict[str, Any]


@dataclass(slots=True)
class Tally:
    """Counts of rows by result: read = written + left out + broken."""

    broken: BrokenRows
    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def read(self) -> int:
        return self.written + self.left_out.total() + self.broken.count


def convert(
    source: Path, out: Path, policy: Policy, to: Target | None = None, mapping: Mapping | None = None, split: str = ""
) -> Tally:
    """Writes the rows of `source` as `to` (default: by the suffix) to `out`, atomically.

    source: a user's file or folder, read by `mapping`, or what `guard data build` made, of which `split` names a part
    or `all`. DataError shows the first broken rows, unless the mapping drops them.
    """
    target = _target(out, to)
    if not out.parent.is_dir() or out.is_dir() or out.resolve() == source.resolve():
        raise DataError(f"{out}: must be a file in an existing folder, and not the input")
    tally = Tally(BrokenRows(str(source)))
    converted = _convert_rows(_stored(source, policy, mapping, split), target, policy, tally)
    try:
        with atomic(out) as file:
            (_write_parquet if target == "parquet" else _write_lines)(converted, file)
            if mapping is None or mapping.on_broken == "error":
                tally.broken.complain()
            if not tally.written:
                reasons = ", ".join(f"{reason}: {count}" for reason, count in tally.left_out.items())
                raise DataError(f"{source}: has no row that can be written as {target} ({reasons or 'none is whole'})")
    except OSError as problem:
        raise DataError(f"{out}: {problem.strerror or type(problem).__name__}") from None
    return tally


def _target(out: Path, to: Target | None) -> Target:
    if out.suffix not in (*_LINES, _PARQUET):
        raise ConfigError(f"{out}: unknown suffix {out.suffix!r}; allowed: {', '.join((*_LINES, _PARQUET))}")
    allowed = [target for target in TARGETS if (target == "parquet") == (out.suffix == _PARQUET)]
    if to is not None and to not in allowed:
        raise ConfigError(f"{out}: with this suffix it can be {', '.join(allowed)}, but not {to}")
    return to or allowed[0]


# -- what is read -----------------------------------------------------------------------------------------------------


def _stored(source: Path, policy: Policy, mapping: Mapping | None, split: str) -> Iterator[Stored | Broken]:
    files = _built(source, split)
    if not files:
        return _own(source, policy, mapping, split)
    if mapping is not None:
        raise ConfigError(f"{source}: was made by `guard data build`, and has no columns to be mapped")
    return (row.fields for file in files for row in formats.read(file, file.name, "parquet"))


def _built(source: Path, split: str) -> list[Path]:
    """The files of a build to read; none if it is not one."""
    if source.suffix == _PARQUET and source.is_file() and not split:
        names = set(columns(source))
        return [source] if names >= _EXAMPLE or names >= _PAIR else []
    if not (source / manifest.NAME).is_file():
        return []
    built = open_dataset(source)
    if split == ALL:
        return list(built.labelled.values())
    parts = built.labelled | built.pairs
    if split not in parts:
        raise ConfigError(
            f"{source}: has the parts {', '.join(parts)}; choose one with --split, or `{ALL}` labelled rows"
        )
    return [parts[split]]


def _own(source: Path, policy: Policy, mapping: Mapping | None, split: str) -> Iterator[Stored | Broken]:
    entry = of_file(source, mapping)
    described = describe(dataclasses.replace(entry, split=split) if split else entry, Path(), policy)
    for row in source_rows.each(described.source, described.root, described.crosswalk, policy):
        if isinstance(row, Broken):
            yield row
            continue
        try:
            yield _pair(row, described) if row.kind == "pair" else _example(row, described)
        except InvalidInput as mistake:
            yield Broken(row.place, str(mistake))


def _common(row: Row, described: Described) -> Stored:
    return {
        "id": row.given_id or row.id,
        "source": row.source,
        "licence": described.source.licence,
        "role": described.source.role,
        "language": row.language,
        "cluster": row.id,
        "weight": 1.0,
    }


def _example(row: Row, described: Described) -> Stored:
    return {
        **_common(row, described),
        "messages": _messages(conversation_of(row).messages),
        "label": row.label,
        "categories": list(row.categories or ()),
        "categories_known": row.label == "safe" or bool(row.categories),
        "undecided": list(row.undecided),
        "kind": row.kind,
    }


def _pair(row: Row, described: Described) -> Stored:
    answers = {name: Message("assistant", text or "").content for name, text in _answers(row)}
    return {
        **_common(row, described),
        "prompt": _messages(Message(role, content) for role, content in row.messages),
        **answers,
    }


def _answers(row: Row) -> tuple[tuple[str, str | None], ...]:
    return ("chosen", row.response), ("rejected", row.rejected)


def _messages(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


# -- rows in the target format ----------------------------------------------------------------------------------------


def _convert_rows(rows: Iterator[Stored | Broken], target: Target, policy: Policy, tally: Tally) -> Iterator[Stored]:
    """Each row in the target format; rows that it cannot express are counted in the tally by reason."""
    make = _MAKERS[target]
    for row in rows:
        if isinstance(row, Broken):
            tally.broken.add(row)
            continue
        converted = make(row, policy)
        if isinstance(converted, str):
            tally.left_out[converted] += 1
        else:
            tally.written += 1
            yield converted


def _as_jsonl(row: Stored, policy: Policy) -> Stored | str:
    turns = row.get("prompt") or row["messages"]
    roles = [turn["role"] for turn in turns]
    if roles in (["user"], ["user", "assistant"]):
        converted = {
            "id": row["id"],
            **dict(zip(("prompt", "response"), (turn["content"] for turn in turns), strict=False)),
        }
    else:
        converted = {"id": row["id"], "messages": turns}
    names = ("chosen", "rejected", "label", "categories", "undecided", "language", "source", "licence")
    extra = {name: row[name] for name in names if row.get(name)}
    return converted | {name: value for name, value in extra.items() if (name, value) != ("language", UNKNOWN_LANGUAGE)}


def _as_parquet(row: Stored, policy: Policy) -> Stored | str:
    return "unlabelled" if row.get("label") == "unlabelled" else row


def _as_chat(row: Stored, policy: Policy) -> Stored | str:
    if "label" not in row:
        return "a pair"
    if row["label"] == "unlabelled":
        return "unlabelled"
    named = set(row["categories"])
    codes = named.intersection(policy.codes)
    # A category outside the policy cannot make anything unsafe.
    verdict = write(codes, policy, safe=row["label"] == "safe" or bool(named and not codes))
    return {"prompt": row["messages"], "completion": [{"role": "assistant", "content": verdict}]}


def _as_kto(row: Stored, policy: Policy) -> Stored | str:
    if "label" not in row:
        return "a pair"
    *prompt, answer = row["messages"]
    if row["label"] == "unlabelled":
        return "unlabelled"
    if answer["role"] != "assistant" or not prompt:
        return "not a response to a prompt"
    return {"prompt": prompt, "completion": [answer], "label": row["label"] == "safe"}


def _as_preference(row: Stored, policy: Policy) -> Stored | str:
    if "chosen" not in row:
        return "not a pair"
    answers = {name: [{"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")}
    return {"prompt": row["prompt"], **answers}


_MAKERS: dict[Target, Callable[[Stored, Policy], Stored | str]] = {
    "jsonl": _as_jsonl,
    "parquet": _as_parquet,
    "chat": _as_chat,
    "kto": _as_kto,
    "preference": _as_preference,
}


def _write_lines(rows: Iterator[Stored], file: BinaryIO) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_parquet(rows: Iterator[Stored], file: BinaryIO) -> None:
    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    first = list(itertools.islice(rows, 1))
    features = store.pair_features() if first and "chosen" in first[0] else store.features()
    rows = itertools.chain(first, rows)
    with parquet.ParquetWriter(file, features.arrow_schema) as writer:
        while group := list(itertools.islice(rows, GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=features.arrow_schema))
