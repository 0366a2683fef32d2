"""Judging a shard: a pure function of its rows and of the scores of their texts."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from guard.conversation import Conversation
from guard.data.ingest.language import MIN_CHARACTERS, MIN_CONFIDENCE, identify
from guard.errors import InvalidInput
from guard.filter.columns import parts_of
from guard.filter.job import Job
from guard.filter.scores import Cuts, Scores, added_columns, scores_in
from guard.filter.tally import BINS, Tally
from guard.jobs.rows import Shard, reason_kind
from guard.verdict import Outcome

_KEPT: Mapping[str, set[str]] = {"safe": {"SAFE"}, "unsafe": {"UNSAFE"}, "all": {"SAFE", "UNSAFE"}}
_SPREADS = ("groups", "lengths", "languages")
_GROUP_CHARACTERS = 80
_UNSURE = "unsure"
_EXAMPLES, _EXCERPT = 3, 400  # of the UNSAFE rows of a shard, and their characters
_LANGUAGE_CHARACTERS = 200  # that tell the language of most texts; more would take longer than all else in this module


@dataclass(frozen=True, slots=True, repr=False)
class ParsedShard:
    """A shard's rows by what they need to be judged. repr shows no text.

    parts: index -> of each part its name and its text's digest. reasons: why a row cannot be judged. scores: those that
    the rows have already. columns: rows with a value in each column that was named.
    """

    shard: Shard
    texts: Mapping[str, Conversation]
    parts: Mapping[int, Sequence[tuple[str, str]]]
    groups: Mapping[int, str]
    reasons: Mapping[int, str]
    scores: Mapping[str, Scores]
    columns: Mapping[str, int]


@dataclass(frozen=True, slots=True, repr=False)
class JudgedShard:
    """The results of a shard's rows; rows that are neither kept nor quarantined are dropped."""

    kept: Mapping[int, str]  # index -> the added columns as a JSON object
    reasons: Mapping[int, str]  # index -> why it is quarantined
    tally: Tally
    examples: Sequence[Mapping[str, Any]]


def parse_shard(shard: Shard, job: Job, group: str, model: str, policy: str) -> ParsedShard:
    """group: what the rows are counted under, unless the job names a column."""
    texts: dict[str, Conversation] = {}
    parts: dict[int, list[tuple[str, str]]] = {}
    groups: dict[int, str] = {}
    reasons: dict[int, str] = {}
    known: dict[str, Scores] = {}
    columns: Counter[str] = Counter()
    for index in range(len(shard)):
        try:
            row = shard.row(index)
            columns.update(name for name in job.columns.named if row.get(name) is not None)
            mine = parts_of(row, job.columns)
            digests = [_digest(part.conversation) for part in mine]
            if job.scored:
                _check_scored(row, model, policy)
                named = [(part.name, part.conversation.target) for part in mine]
                # By row: the rows of an earlier run may differ in what they say of the same text.
                digests = [f"{index}:{digest}" for digest in digests]
                known.update(zip(digests, scores_in(row, named, job.columns.several), strict=True))
        except InvalidInput as problem:
            reasons[index] = str(problem)
            continue
        texts.update(zip(digests, (part.conversation for part in mine), strict=True))
        parts[index] = list(zip((part.name for part in mine), digests, strict=True))
        groups[index] = group if job.by is None else str(row.get(job.by))[:_GROUP_CHARACTERS]
    return ParsedShard(shard, texts, parts, groups, reasons, known, columns)


def judge_shard(
    parsed: ParsedShard, scores: Mapping[str, Scores | str], job: Job, cuts: Cuts, model: str, policy: str
) -> JudgedShard:
    """scores: by digest those of all texts, or why a text has none. `scored` of the tally is left to the caller."""
    kept: dict[int, str] = {}
    reasons = dict(parsed.reasons)
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("outcomes", "flagged", "scores", *_SPREADS)}
    counts |= {f"{spread}_flagged": Counter() for spread in _SPREADS}
    examples: list[tuple[str, dict[str, Any]]] = []
    for index, parts in parsed.parts.items():
        mine = [(name, scores[digest]) for name, digest in parts]
        if failed := next((each for _, each in mine if isinstance(each, str)), None):
            reasons[index] = failed
            continue
        columns = added_columns(
            [(name, each) for name, each in mine if isinstance(each, Scores)],
            cuts,
            model,
            policy,
            job.columns.several,
        )
        outcome = columns["guard_outcome"]
        judged = parsed.texts[parts[-1][1]]
        length = sum(len(message.content) for message in judged.messages)
        counts["outcomes"][outcome] += 1
        counts["flagged"].update(columns["guard_flagged"])
        for spread, key in (
            ("groups", parsed.groups[index]),
            ("lengths", str(length.bit_length())),
            ("languages", _language(judged.judged.content)),
        ):
            if key is not None:
                counts[spread][key] += 1
                counts[f"{spread}_flagged"][key] += outcome == Outcome.UNSAFE.value
        counts["scores"][str(min(int(columns["guard_p_unsafe"] * BINS), BINS - 1))] += 1
        if outcome == Outcome.UNSAFE.value:
            examples.append((parts[-1][1], _example(columns, parsed.groups[index], judged)))
        if outcome == Outcome.INCOMPLETE.value and not job.annotate:
            reasons[index] = "INCOMPLETE: a part could not be judged"
        elif job.annotate or outcome in _KEPT[job.keep]:
            kept[index] = json.dumps(columns)
    rows = len(parsed.shard)
    spreads: dict[str, Any] = {name: dict(count) for name, count in counts.items()}
    tally = Tally(
        read=rows,
        kept=len(kept),
        dropped=rows - len(kept) - len(reasons),
        quarantined=len(reasons),
        judged=sum(map(len, parsed.parts.values())),
        columns=dict(parsed.columns),
        reasons=dict(Counter(map(reason_kind, reasons.values()))),
        **spreads,
    )
    examples.sort(key=lambda each: each[0])
    return JudgedShard(kept, reasons, tally, [example for _, example in examples[:_EXAMPLES]])


def _language(text: str) -> str | None:
    """None where no identifier is installed; `unsure` of a short text, or an uncertain answer."""
    if not _identifies():
        return None
    if len(text) < MIN_CHARACTERS:
        return _UNSURE
    code, probability = identify(text[:_LANGUAGE_CHARACTERS])
    return code if probability >= MIN_CONFIDENCE else _UNSURE


@cache
def _identifies() -> bool:
    return importlib.util.find_spec("py3langid") is not None


def _example(columns: Mapping[str, Any], group: str, conversation: Conversation) -> dict[str, Any]:
    return {
        "group": group,
        "p_unsafe": columns["guard_p_unsafe"],
        "flagged": columns["guard_flagged"],
        "text": conversation.judged.content[:_EXCERPT],
    }


def _check_scored(row: Mapping[str, Any], model: str, policy: str) -> None:
    for name, expected in (("model", model), ("policy", policy)):
        if row[f"guard_{name}"] != expected:
            raise InvalidInput(f"the row was scored by another {name}; score the rows again, or give that {name}")


def _digest(conversation: Conversation) -> str:
    """The digest of what scores depend on besides the guard."""
    turns = [(message.role, message.content, *message.unjudged) for message in conversation.messages]
    return hashlib.sha256(json.dumps(turns).encode()).hexdigest()
