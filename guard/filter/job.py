"""Filters a row file: judges each row, keeps the requested ones and accounts for the rest.

A shard of rows is the unit of commit, so a killed job resumes after its last finished shard and ends with the same
bytes as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from guard.conversation import Conversation, ConversationColumns, conversation_from_row
from guard.digest import file_digest
from guard.errors import ConfigError, DataError, EngineError, InvalidInput, ServiceError
from guard.jobs.atomic import atomic
from guard.jobs.ledger import Ledger, open_ledger
from guard.jobs.paths import check_input, check_output
from guard.jobs.rows import GZIP, Kind, RowFile, Shard, format_of, open_rows, reason_kind
from guard.moderator import Guard
from guard.verdict import Outcome, Verdict, to_json

Keep = Literal["safe", "unsafe", "all"]
Progress = Callable[[int], None]
_KEPT: dict[str, set[str]] = {"safe": {"SAFE"}, "unsafe": {"UNSAFE"}, "all": {"SAFE", "UNSAFE"}}
ADDED: Mapping[str, Kind] = {
    "guard_outcome": "text",
    "guard_p_unsafe": "number",
    "guard_flagged": "texts",
    "guard_categories": "object",
}
SHARD_ROWS = 5000
BATCH = 256  # texts of similar length per engine call
REMEMBERED = 100_000  # verdicts that are cached for later shards: some 60 MB


@dataclass(frozen=True, slots=True)
class Job:
    """What to filter. `keep` is the outcome of the rows that go to `out`; INCOMPLETE rows never do.

    exclude: codes of the guard's policy to ignore. Rows are parsed by `guard.conversation`, or are the bare text of
    `text_column`. A run reads `source` more than once.
    """

    source: Path
    out: Path
    quarantine: Path
    keep: Keep = "safe"
    text_column: str | None = None
    exclude: tuple[str, ...] = ()
    shard_rows: int = SHARD_ROWS

    def __post_init__(self) -> None:
        if self.keep not in _KEPT:
            raise ConfigError(f"unknown outcome to keep {self.keep!r}; allowed: {', '.join(_KEPT)}")
        if self.shard_rows < 1:
            raise ConfigError(f"shard_rows must be >= 1 (got {self.shard_rows})")

    @property
    def columns(self) -> ConversationColumns:
        return ConversationColumns.of_text(self.text_column)

    def rows(self) -> RowFile:
        return open_rows(self.source, self.columns, adding=ADDED)

    @property
    def parts(self) -> Path:
        return self.out.with_name(f"{self.out.name}.parts")

    @property
    def report(self) -> Path:
        return self.out.with_name(f"{self.out.name}.report.json")


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of rows by result: read = kept + dropped + quarantined."""

    read: int = 0
    kept: int = 0
    dropped: int = 0
    quarantined: int = 0
    scored: int = 0  # texts that went to the engine
    outcomes: Mapping[str, int] = field(default_factory=dict)
    flagged: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)  # of the quarantined rows

    def __add__(self, other: Tally) -> Tally:
        sums: dict[str, Any] = {}
        for name in (each.name for each in fields(self)):
            a, b = getattr(self, name), getattr(other, name)
            sums[name] = a + b if isinstance(a, int) else dict(Counter(a) + Counter(b))
        return Tally(**sums)


def filter_file(job: Job, guard: Guard, restart: bool = False, progress: Progress | None = None) -> Tally:
    """Writes the kept rows to `job.out`, broken and undecided ones to `job.quarantine`, and `job.report`.

    restart: discard the finished shards, or the output, of an earlier run. progress: called with the number of rows
    finished since its last call. Raises DataError where a file cannot be read or written, finished shards belong to
    another job, the output already exists, or another process writes it; ServiceError where the guard is a service
    that cannot be reached, after which the job can resume.
    """
    _check_paths(job)
    try:
        return _run(job, guard, restart, progress or (lambda rows: None))
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise DataError(
            f"{problem.filename or job.out}: {reason}; finished shards stay in {job.parts}: run again to resume"
        ) from None


def _check_paths(job: Job) -> None:
    check_input(job.source)
    formats = [format_of(path) for path in (job.source, job.out)]
    if formats[0] != formats[1] or job.out.suffix == GZIP:
        raise DataError(f"{job.source} is {formats[0]}; {job.out} must have the same format, uncompressed")
    for path in (job.out, job.quarantine, job.report):
        check_output(path)
    if len({path.resolve() for path in (job.source, job.out, job.quarantine, job.report)}) < 4:
        raise DataError(f"{job.source}, {job.out}, {job.quarantine}, {job.report}: must be four different files")


def _run(job: Job, guard: Guard, restart: bool, progress: Progress) -> Tally:
    rows, info = job.rows(), guard.info
    settings = {
        "input_sha256": file_digest(job.source),
        "model": info.model,
        "policy": info.policy.without(job.exclude).digest,
        "mode": info.mode,
        "keep": job.keep,
        "text_column": job.text_column,
        "shard_rows": job.shard_rows,
    }
    with open_ledger(job.parts, settings, restart, outputs=(job.out, job.quarantine, job.report)) as ledger:
        known: OrderedDict[str, str] = OrderedDict()
        tally, parts = Tally(), 0
        for part, shard in enumerate(rows.shards(job.shard_rows)):
            if ledger.finished(part):
                progress(len(shard))
            else:
                _write(shard, _judge(shard, job, guard, known, progress), ledger, part)
            record = ledger.record(part)
            _remember(known, record["verdicts"])
            tally, parts = tally + Tally(**record["tally"]), part + 1
        if file_digest(job.source) != settings["input_sha256"]:
            raise DataError(f"{job.source}: changed during the run; give --restart when it is complete")
        if not all(map(ledger.finished, range(parts))):
            raise DataError(f"{job.parts}: changed during the run; run again to redo the changed parts")
        _finish(job, rows, ledger, parts, {**settings, **asdict(tally)})
    return tally


@dataclass(frozen=True, slots=True)
class _JudgedShard:
    """The results of a shard's rows; rows that are neither kept nor quarantined are dropped."""

    kept: dict[int, str]  # index -> the added columns as a JSON object
    reasons: dict[int, str]  # index -> why it is quarantined
    verdicts: dict[str, str]  # digest of a text without a known verdict -> the added columns
    tally: Tally


def _judge(shard: Shard, job: Job, guard: Guard, known: Mapping[str, str], progress: Progress) -> _JudgedShard:
    reasons: dict[int, str] = {}
    digests: dict[int, str] = {}
    new: dict[str, Conversation] = {}
    for index in range(len(shard)):
        try:
            conversation = conversation_from_row(shard.row(index), job.columns)
        except InvalidInput as problem:
            reasons[index] = str(problem)
            continue
        digests[index] = _digest(conversation)
        if digests[index] not in known:
            new[digests[index]] = conversation
    rows = Counter(digest for digest in digests.values() if digest in new)
    progress(len(shard) - rows.total())
    verdicts, failures = _score(new, job, guard, lambda batch: progress(sum(rows[digest] for digest in batch)))

    kept: dict[int, str] = {}
    outcomes: Counter[str] = Counter()
    flagged: Counter[str] = Counter()
    for index, digest in digests.items():
        if digest in failures:
            reasons[index] = failures[digest]
            continue
        added = verdicts[digest] if digest in new else known[digest]
        columns = json.loads(added)
        outcomes[columns["guard_outcome"]] += 1
        flagged.update(columns["guard_flagged"])
        if columns["guard_outcome"] == Outcome.INCOMPLETE.value:
            reasons[index] = "INCOMPLETE: part of the text could not be tokenized"
        elif columns["guard_outcome"] in _KEPT[job.keep]:
            kept[index] = added
    tally = Tally(
        read=len(shard),
        kept=len(kept),
        dropped=len(shard) - len(kept) - len(reasons),
        quarantined=len(reasons),
        scored=len(new),
        outcomes=dict(outcomes),
        flagged=dict(flagged),
        reasons=dict(Counter(map(reason_kind, reasons.values()))),
    )
    return _JudgedShard(kept, reasons, verdicts, tally)


def _digest(conversation: Conversation) -> str:
    """The digest of what a verdict depends on, under the settings of one job."""
    turns = [(message.role, message.content) for message in conversation.messages]
    return hashlib.sha256(json.dumps(turns).encode()).hexdigest()


def _score(
    texts: Mapping[str, Conversation], job: Job, guard: Guard, done: Callable[[Sequence[str]], None]
) -> tuple[dict[str, str], dict[str, str]]:
    """By digest: the added columns of the texts that could be judged, and why the others could not."""
    verdicts: dict[str, str] = {}
    failures: dict[str, str] = {}
    by_length = sorted(texts, key=lambda digest: len(texts[digest].judged.content))
    for start in range(0, len(by_length), BATCH):
        batch = by_length[start : start + BATCH]
        answers = guard.moderate_each([texts[digest] for digest in batch], exclude=job.exclude)
        if outage := next((answer for answer in answers if isinstance(answer, ServiceError)), None):
            raise outage  # the service failed, not the texts: they are judged when the job resumes
        if len(batch) > 1 and all(isinstance(answer, EngineError) for answer in answers):
            raise EngineError(f"none of {len(batch)} texts could be scored: {answers[0]}")  # the engine failed
        for digest, verdict in zip(batch, answers, strict=True):
            if isinstance(verdict, Verdict):
                plain = to_json(verdict)
                verdicts[digest] = json.dumps({name: plain[name.removeprefix("guard_")] for name in ADDED})
            else:
                failures[digest] = str(verdict)
        done(batch)
    return verdicts, failures


def _remember(known: OrderedDict[str, str], verdicts: Mapping[str, str]) -> None:
    """Adds a shard's new verdicts. A resumed job replays its records here, so that it has the first run's cache."""
    known.update(verdicts)
    while len(known) > REMEMBERED:
        known.popitem(last=False)


def _write(shard: Shard, judged: _JudgedShard, ledger: Ledger, part: int) -> None:
    with atomic(ledger.path(part, "kept")) as file:
        shard.write(file, judged.kept)
    quarantine = [
        {"line": shard.number(index), "reason": judged.reasons[index], **shard.raw(index)}
        for index in sorted(judged.reasons)
    ]
    ledger.commit(part, {"tally": asdict(judged.tally), "verdicts": judged.verdicts, "quarantine": quarantine})


def _finish(job: Job, rows: RowFile, ledger: Ledger, parts: int, report: Mapping[str, Any]) -> None:
    """Joins the parts; the output appears last, so that its presence means that everything is complete."""
    with atomic(job.quarantine, private=True) as file:
        for part in range(parts):
            for entry in ledger.record(part)["quarantine"]:
                file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
    with atomic(job.report) as file:
        file.write(json.dumps(report, indent=2, sort_keys=True).encode() + b"\n")
    with atomic(job.out) as file:
        rows.join([ledger.path(part, "kept") for part in range(parts)], file)
    ledger.remove()
