"""Judges a file of rows by a model behind a chat endpoint: labels, or preference pairs.

Every completion is kept before the next request (`guard.llm.completions`), and finished rows are committed part by
part, so a job that was killed asks nothing again and ends with the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.annotate.job import PART_ROWS, Job, check_paths, settings
from guard.annotate.labels import Labelling
from guard.annotate.pairs import Comparing
from guard.annotate.question import Voice, Voices
from guard.annotate.report import report
from guard.annotate.rows import Finding, line_of, read_case
from guard.digest import file_digest
from guard.errors import ConfigError, DataError, EngineError, InvalidInput
from guard.jobs.atomic import atomic
from guard.jobs.ledger import Ledger, open_ledger
from guard.jobs.rows import Shard, open_rows, reason_kind
from guard.llm.client import Client, RateLimiter
from guard.llm.completions import CompletionCache, Usage

Progress = Callable[[int], None]
MOST_FAILURES = 20  # rows that fail one after the other before the endpoint is given up
AHEAD = 4  # rows begun for each thread, so that a slow one does not stop the others
_ACCOUNT = "account"  # the file in the ledger that names the cost account of this run


def judge_file(job: Job, restart: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Writes `job.out`, `job.dropped`, `job.quarantine` and `job.report`, and returns the report.

    restart: throw away the finished parts of an earlier run; its answers stay known. progress: called with the number
    of rows that were done since its last call. Raises DataError where a file cannot be read or written, EngineError
    where the endpoint fails row after row, ConfigError where it refuses whatever it is asked.
    """
    check_paths(job)
    try:
        _check_rows(job)
        return _open(job, restart, progress or (lambda rows: None))
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise DataError(
            f"{problem.filename or job.out}: {reason}; finished parts stay in {job.parts}, so run again to go on"
        ) from None


def _check_rows(job: Job) -> None:
    """Finds out before anything is asked that two rows share an id, or that a row has a column that the judge adds."""
    seen: dict[bytes, int] = {}
    for row in _rows(job):
        where = f"{job.source} line {row.number}"
        try:
            own = read_case(row.read(), job.rules.task).id
        except InvalidInput:
            continue
        except DataError as problem:
            raise DataError(f"{where}: {problem}") from None
        digest = hashlib.sha256(own.encode("utf-8", "surrogatepass")).digest()  # ids may be as long as texts
        if digest in seen:
            raise DataError(
                f"{where}: has the id of line {seen[digest]} (a row without `id` goes by its texts); give every row "
                "its own, or remove what is there twice"
            )
        seen[digest] = row.number


@dataclass(frozen=True, slots=True, repr=False)
class _Row:
    part: int
    shard: Shard
    index: int

    @property
    def number(self) -> int:
        return self.shard.number(self.index)

    def read(self) -> Mapping[str, Any]:
        """Its columns; InvalidInput if it is broken."""
        return self.shard.row(self.index)


def _rows(job: Job) -> Iterator[_Row]:
    for part, shard in enumerate(open_rows(job.source, also=None).shards(PART_ROWS)):
        for index in range(len(shard)):
            yield _Row(part, shard, index)


def _open(job: Job, restart: bool, progress: Progress) -> dict[str, Any]:
    known = job.parts / _ACCOUNT
    account = known.read_text() if known.is_file() and not restart else uuid.uuid4().hex
    with closing(CompletionCache(job.cache)) as cache:
        limiter = RateLimiter(job.judge.endpoint.requests_per_minute)
        with closing(Client(job.judge.endpoint, cache, f"{account}:judge", limiter)) as client:
            judge = Voice("judge", job.judge, client)
            if job.generator is None:
                return _run(job, Voices(judge), cache, account, restart, progress)
            endpoint = job.generator.endpoint
            shared = limiter if endpoint.base_url == job.judge.endpoint.base_url else None
            with closing(Client(endpoint, cache, f"{account}:generator", shared)) as writer:
                voices = Voices(judge, Voice("generator", job.generator, writer))
                return _run(job, voices, cache, account, restart, progress)


def _run(
    job: Job, voices: Voices, cache: CompletionCache, account: str, restart: bool, progress: Progress
) -> dict[str, Any]:
    found = settings(job)
    outputs = () if _is_of(job, found) else (job.out, job.dropped, job.quarantine, job.report)
    with open_ledger(job.parts, found, restart, outputs=outputs) as ledger:
        if not (ledger.folder / _ACCOUNT).is_file():
            with atomic(ledger.folder / _ACCOUNT) as file:
                file.write(account.encode())
        try:
            _judge(job, voices, ledger, progress)
        except (ConfigError, EngineError):
            if not any(cache.usage(f"{account}:{name}").requests for name in ("judge", "generator")):
                ledger.remove()  # nothing was paid for: the next try may have other settings
            raise
        if file_digest(job.source) != found["input_sha256"]:
            raise DataError(f"{job.source}: was written to while it was read; give --restart when it is complete")
        usage: dict[str, Usage] = {voice.name: cache.usage(f"{account}:{voice.name}") for voice in _each(voices)}
        return _finish(job, ledger, found, usage)


def _is_of(job: Job, settings: Mapping[str, Any]) -> bool:
    """Whether this very job has finished before: then it is run again for the rows that failed."""
    try:
        return bool(json.loads(job.report.read_bytes())["settings"] == settings)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _each(voices: Voices) -> list[Voice]:
    return [voice for voice in (voices.judge, voices.generator) if voice]


def _judge(job: Job, voices: Voices, ledger: Ledger, progress: Progress) -> None:
    """Commits all parts that are not finished, and those again in which the endpoint had failed."""
    done: dict[int, bool] = {}

    def todo() -> Iterator[_Row]:
        for row in _rows(job):
            if row.part not in done:
                done[row.part] = ledger.finished(row.part) and not ledger.record(row.part)["fates"].get("failed")
            if done[row.part]:
                progress(1)
            else:
                yield row

    pool = ThreadPoolExecutor(job.threads, thread_name_prefix="judge")
    try:
        found = _in_order(pool, lambda row: _find(row, job.rules, voices), todo(), job.threads * AHEAD)
        failures = 0
        for part, rows in itertools.groupby(found, key=lambda each: each[0].part):
            findings = []
            for row, finding, counts in rows:
                failures = failures + 1 if finding.fate == "failed" else 0 if finding.fate != "broken" else failures
                if failures == MOST_FAILURES:
                    raise EngineError(
                        f"{job.judge.endpoint.where}: {failures} rows failed one after the other, the last one with: "
                        f"{finding.reason}. Answers so far are kept; run the same command again to go on"
                    )
                findings.append((row, finding, counts))
                progress(1)
            ledger.commit(part, _record(findings))
    except BaseException:
        for voice in _each(voices):
            voice.client.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)  # answers under way are waited for: they are paid


_Found = tuple[_Row, Finding, Counter[str]]


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[_Row], _Found], rows: Iterable[_Row], ahead: int
) -> Iterator[_Found]:
    """What `work` finds of each row, in the order of the rows; `ahead` of them are begun at most."""
    begun: deque[Future[_Found]] = deque()
    for row in rows:
        begun.append(pool.submit(work, row))
        if len(begun) == ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _find(row: _Row, rules: Labelling | Comparing, voices: Voices) -> _Found:
    counts: Counter[str] = Counter()
    try:
        return row, rules.judge(read_case(row.read(), rules.task), voices, counts), counts
    except InvalidInput as problem:
        return row, Finding("broken", str(problem)), counts
    except EngineError as problem:
        # What a row that failed was asked counts as asked; what it was told counts for nothing.
        asked = Counter({name: count for name, count in counts.items() if name.endswith(" answers")})
        return row, Finding("failed", str(problem)), asked


def _record(findings: list[_Found]) -> dict[str, Any]:
    """A part: the lines to write, and what to count."""
    reasons: dict[str, Counter[str]] = {"dropped": Counter(), "broken": Counter(), "failed": Counter()}
    sums: Counter[str] = Counter()
    kept, dropped, quarantine = [], [], []
    for row, finding, counts in findings:
        sums += counts
        kept += [line_of(each) for each in finding.rows]
        dropped += [line_of({"line": row.number, **each}) for each in finding.dropped]
        if finding.fate != "kept":
            kind = reason_kind(finding.reason) if finding.fate == "broken" else finding.reason
            reasons[finding.fate][kind] += 1
        if finding.fate in ("broken", "failed"):
            entry = {"line": row.number, "fate": finding.fate, "reason": finding.reason, **row.shard.raw(row.index)}
            quarantine.append(line_of(entry))
    fates = Counter(finding.fate for _, finding, _ in findings)
    return {
        "fates": fates,
        "reasons": reasons,
        "counts": sums,
        "kept": kept,
        "dropped": dropped,
        "quarantine": quarantine,
    }


def _finish(job: Job, ledger: Ledger, found: Mapping[str, Any], usage: Mapping[str, Usage]) -> dict[str, Any]:
    """Joins the parts; the output appears last, so that where it is, all is."""
    fates: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    parts = list(itertools.takewhile(ledger.finished, itertools.count()))
    for part in parts:
        record = ledger.record(part)
        fates.update(record["fates"])
        counts.update(record["counts"])
        for fate, each in record["reasons"].items():
            reasons[fate].update(each)
    told = report(job, found, fates, reasons, counts, usage)
    for path, lines in ((job.dropped, "dropped"), (job.quarantine, "quarantine")):
        _join(path, ledger, parts, lines)
    with atomic(job.report) as file:
        file.write(json.dumps(told, indent=2, sort_keys=True).encode() + b"\n")
    _join(job.out, ledger, parts, "kept")
    ledger.remove()
    return told


def _join(path: Path, ledger: Ledger, parts: Iterable[int], lines: str) -> None:
    with atomic(path, private=lines != "kept") as file:
        for part in parts:
            file.writelines(line.encode() + b"\n" for line in ledger.record(part)[lines])
