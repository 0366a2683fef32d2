"""Runs a filtering job: reads, scores and writes shards side by side, and commits them in order.

A shard of rows is the unit of commit, so a killed job resumes after its last finished shard and ends with the same
bytes as an uninterrupted one. Which texts a shard has to score, and in which batches, depends on the input alone: those
that no earlier shard has and that the score cache had not when the job began. The scores of a batch go to the cache at
once, and without some of its batches a shard has the others (`scoring.batches`): a killed job loses only the batches in
flight.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from guard.errors import DataError
from guard.filter import inputs, output
from guard.filter.inputs import Source
from guard.filter.job import Job
from guard.filter.output import Output
from guard.filter.scores import Cuts, as_json, cuts_of, from_json, scored_by
from guard.filter.scoring import BATCH, Answers, Batch, Scoring, batches
from guard.filter.shard import JudgedShard, ParsedShard, judge_shard, parse_shard
from guard.filter.tally import Tally
from guard.jobs.atomic import atomic
from guard.jobs.cache import Cache
from guard.jobs.ledger import Ledger, open_ledger
from guard.jobs.rows import RowFile, Shard
from guard.moderator import Guard
from guard.verdict import Outcome

Progress = Callable[[int, int], None]
Page = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], str]
_EXAMPLES = 40  # of UNSAFE rows in the page
_END: Any = object()
_log = logging.getLogger(__name__)
T = TypeVar("T")


def filter_rows(
    job: Job,
    guard: Guard,
    restart: bool = False,
    progress: Progress | None = None,
    *,
    page: Page | None = None,
    total: Callable[[int], None] | None = None,
    cache: Path | None = None,
    parallel: int = 1,
    patience_s: float = 0.0,
) -> Tally:
    """Writes the kept rows to `job.out`, broken and undecided ones to `job.quarantine`, and the report.

    restart: discard the finished shards, or the output, of an earlier run. progress: called with the rows finished, and
    those of them that are UNSAFE, since its last call. page: makes `job.page` of the report and of examples. total:
    called with about how many rows there are. cache: a file that keeps the scores of texts for later runs; None: they
    are kept for this job. parallel: calls of the guard at a time. patience_s: how long to wait for a service that is
    gone. Raises DataError where a file cannot be read or written, finished shards belong to another job, the output
    already exists, or another process writes it; ServiceError where the guard is a service that cannot be reached,
    after which the job can resume.
    """
    try:
        with inputs.opened(job.inputs, job.out) as sources, ExitStack() as stack:
            run = _open(job, guard, sources, restart, cache, parallel, patience_s, stack)
            if total is not None:
                total(sum(each.total() for each in run.rows))
            return run.work(progress or (lambda rows, unsafe: None), page)
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise DataError(
            f"{problem.filename or job.out}: {reason}; finished shards stay in {job.parts}: run again to resume"
        ) from None


def _open(
    job: Job,
    guard: Guard,
    sources: Sequence[Source],
    restart: bool,
    cache: Path | None,
    parallel: int,
    patience_s: float,
    stack: ExitStack,
) -> _Run:
    outputs = output.outputs_of(job, sources)
    rows = [job.rows(source.path) for source in sources]
    for each in outputs:
        output.check_joinable(each, rows, sources)
    info = guard.info
    applied = info.policy.without(job.exclude)
    settings = {
        "inputs": inputs.fingerprints(sources),
        "model": info.model,
        "policy": applied.digest,
        "mode": info.mode,
        **job.settings(),
    }
    results = [*(each.path for each in outputs), job.quarantine, job.report]
    ledger = stack.enter_context(open_ledger(job.parts, settings, restart, outputs=results))
    known = stack.enter_context(closing(Cache(cache or ledger.folder / "scores.cache")))
    scoring = stack.enter_context(Scoring(guard, job.exclude, parallel, patience_s))
    identity = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    keys = _Keys(f"filter1:{info.model}:{scored_by(applied)}:", f"filter1-failed:{identity}:")
    return _Run(job, sources, outputs, rows, settings, cuts_of(info, job.threshold), ledger, known, keys, scoring)


@dataclass(frozen=True, slots=True)
class _Keys:
    """Prefixes of the cache's keys. A failure counts for its job alone, which must fare the same when it resumes."""

    scores: str
    failures: str


@dataclass(slots=True)
class _Waiting:
    """A shard whose texts are being scored. batches: its own; others: earlier shards that have some of its texts."""

    part: int
    parsed: ParsedShard
    scores: Answers
    batches: list[Batch]
    others: dict[str, _Waiting]
    scored: int


@dataclass(frozen=True, slots=True)
class _Run:
    job: Job
    sources: Sequence[Source]
    outputs: Sequence[Output]
    rows: Sequence[RowFile]
    settings: Mapping[str, Any]
    cuts: Cuts
    ledger: Ledger
    cache: Cache
    keys: _Keys
    scoring: Scoring

    def work(self, progress: Progress, page: Page | None) -> Tally:
        tally = Tally()
        places: list[int] = []  # by part, the source
        waiting: deque[_Waiting] = deque()
        owners: dict[str, _Waiting] = {}
        # So many shards that each thread has a batch to begin with while the oldest is finished.
        ahead = 1 + -(-2 * self.scoring.parallel * BATCH // self.job.shard_rows)
        with ThreadPoolExecutor(1, "writing") as writer, closing(_ahead(self._shards())) as shards:
            written: Future[None] | None = None

            def finish() -> None:
                nonlocal tally, written
                judged = self._finished(waiting.popleft(), owners)
                if written is not None:
                    written.result()
                written = writer.submit(self._write, *judged)
                tally += judged[1].tally
                progress(judged[1].tally.read, judged[1].tally.outcomes.get(Outcome.UNSAFE.value, 0))

            for part, (place, shard) in enumerate(shards):
                places.append(place)
                if self.ledger.finished(part):
                    tally += (done := Tally(**self.ledger.record(part)["tally"]))
                    progress(done.read, done.outcomes.get(Outcome.UNSAFE.value, 0))
                    continue
                waiting.append(self._start(part, place, shard, owners))
                while waiting and (len(waiting) > ahead or all(batch.done() for batch in waiting[0].batches)):
                    finish()
            while waiting:
                finish()
            if written is not None:
                written.result()
        self._check_unchanged(len(places))
        for name in self.job.columns.named:
            if tally.read and not tally.columns.get(name):
                _log.warning("no row has a value in the column `%s`; is that its name?", name)
        self._finish(places, tally, page)
        return tally

    def _shards(self) -> Iterator[tuple[int, Shard]]:
        for place, rows in enumerate(self.rows):
            yield from zip(itertools.repeat(place), rows.shards(self.job.shard_rows))

    def _start(self, part: int, place: int, shard: Shard, owners: dict[str, _Waiting]) -> _Waiting:
        """Parses the shard and starts to score the texts that have no scores and that no earlier shard scores."""
        group = str(self.sources[place].name)
        model, policy = self.settings["model"], self.settings["policy"]
        parsed = parse_shard(shard, self.job, group, model, policy)
        if self.job.scored:
            return _Waiting(part, parsed, dict(parsed.scores), [], {}, 0)
        others = {digest: owners[digest] for digest in parsed.texts if digest in owners}
        scores = self._cached([digest for digest in parsed.texts if digest not in others])
        new = {digest: text for digest, text in parsed.texts.items() if digest not in scores and digest not in others}
        started = [self.scoring.submit({key: new[key] for key in keys}, self._commit) for keys in batches(new)]
        waiting = _Waiting(part, parsed, scores, started, others, len(new))
        owners.update(dict.fromkeys(new, waiting))
        return waiting

    def _cached(self, digests: Sequence[str]) -> Answers:
        keys = self.keys
        values = self.cache.get_many(prefix + digest for digest in digests for prefix in (keys.scores, keys.failures))
        answers: Answers = {}
        for digest in digests:
            if (value := values.get(keys.scores + digest)) is not None:
                answers[digest] = from_json(value)
            elif (reason := values.get(keys.failures + digest)) is not None:
                answers[digest] = str(reason)
        return answers

    def _commit(self, answers: Answers) -> None:
        """Puts the answers of a batch into the cache: all or, if the job is killed, none."""
        keys = self.keys
        self.cache.put_many(
            {
                keys.failures + digest if isinstance(each, str) else keys.scores + digest: each
                if isinstance(each, str)
                else as_json(each)
                for digest, each in answers.items()
            }
        )

    def _finished(self, waiting: _Waiting, owners: dict[str, _Waiting]) -> tuple[int, JudgedShard, ParsedShard]:
        for batch in waiting.batches:
            answers = batch.result()
            waiting.scores.update(answers)
            for digest in answers:
                del owners[digest]
        for digest, owner in waiting.others.items():
            waiting.scores[digest] = owner.scores[digest]
        waiting.others.clear()
        model, policy = self.settings["model"], self.settings["policy"]
        judged = judge_shard(waiting.parsed, waiting.scores, self.job, self.cuts, model, policy)
        judged = replace(judged, tally=replace(judged.tally, scored=waiting.scored))
        return waiting.part, judged, waiting.parsed

    def _write(self, part: int, judged: JudgedShard, parsed: ParsedShard) -> None:
        shard = parsed.shard
        with atomic(self.ledger.path(part, "kept")) as file:
            shard.write(file, judged.kept)
        quarantine = [
            {"line": shard.number(index), "reason": judged.reasons[index], **shard.raw(index)}
            for index in sorted(judged.reasons)
        ]
        record = {"tally": asdict(judged.tally), "quarantine": quarantine, "examples": list(judged.examples)}
        self.ledger.commit(part, record, ["kept"])

    def _check_unchanged(self, parts: int) -> None:
        before, after = self.settings["inputs"], inputs.fingerprints(self.sources)
        if changed := [path for path in before if before[path] != after[path]]:
            raise DataError(f"{changed[0]}: changed during the run; give --restart when it is complete")
        if not all(map(self.ledger.finished, range(parts))):
            raise DataError(f"{self.job.parts}: changed during the run; run again to redo the changed parts")

    def _finish(self, places: Sequence[int], tally: Tally, page: Page | None) -> None:
        """Joins the parts; the output appears last, so that its presence means that everything is complete."""
        job, ledger = self.job, self.ledger
        several = len(self.sources) > 1
        with atomic(job.quarantine, private=True) as file:
            for part, place in enumerate(places):
                where = {"file": str(self.sources[place].path)} if several else {}
                for entry in ledger.record(part)["quarantine"]:
                    file.write(json.dumps({**where, **entry}, ensure_ascii=False).encode() + b"\n")
        report = {**self.settings, **tally.report()}
        with atomic(job.report) as file:
            file.write(json.dumps(report, indent=2, sort_keys=True).encode() + b"\n")
        if page is not None:
            every = max(1, len(places) // _EXAMPLES)  # from all over the data
            examples = [each for part in range(0, len(places), every) for each in ledger.record(part)["examples"]]
            with atomic(job.page, private=True) as file:
                file.write(page(report, examples[:_EXAMPLES]).encode())
        for each in self.outputs:
            parts = (ledger.path(part, "kept") for part, place in enumerate(places) if place in each.sources)
            output.write(each, self.rows[each.sources[0]], parts)
        output.write_dataset_states(job, self.sources, self.settings)
        self.cache.close()
        ledger.remove()


def _ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The items, of which the next one is made in a thread of its own."""
    with ThreadPoolExecutor(1, "reading") as reader:
        following = reader.submit(next, items, _END)
        while (item := following.result()) is not _END:
            following = reader.submit(next, items, _END)
            yield item
