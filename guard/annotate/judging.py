"""Annotates a file of rows with a model behind a chat endpoint: labels, or preference pairs.

Every completion is stored before the next request (`guard.llm.completions`), and finished rows are committed part by
part, so a killed job repeats no request and ends with the same bytes as one that was not killed.
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
from guard.annotate.labels import LabelTask
from guard.annotate.pairs import CompareTask
from guard.annotate.question import ModelClient, Models
from guard.annotate.report import report
from guard.annotate.rows import Finding, line_of, parse_case
from guard.digest import file_digest
from guard.errors import ConfigError, DataError, EngineError, InvalidInput
from guard.jobs.atomic import atomic
from guard.jobs.ledger import Ledger, open_ledger
from guard.jobs.rows import Shard, open_rows, reason_kind
from guard.llm.client import Client, RateLimiter
from guard.llm.completions import CompletionCache, Usage

Progress = Callable[[int], None]
MAX_FAILURES = 20  # consecutive failed rows after which the job stops
LOOKAHEAD = 4  # rows in flight per thread, so that a slow one does not stop the others
_ACCOUNT = "account"  # the file in the ledger that names the cost account of this run


def judge_file(job: Job, restart: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Write `job.out`, `job.dropped`, `job.quarantine` and `job.report`; return the report.

    restart: discard the finished parts of an earlier run; its completions stay cached. progress: called with the number
    of rows finished since its last call. Raises DataError if a file cannot be read or written, EngineError if the
    endpoint fails row after row, ConfigError if it refuses every request.
    """
    check_paths(job)
    try:
        _check_rows(job)
        return _open(job, restart, progress or (lambda rows: None))
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise DataError(
            f"{problem.filename or job.out}: {reason}; finished parts stay in {job.parts}: run again to resume"
        ) from None


def _check_rows(job: Job) -> None:
    """DataError, before any request, if two rows share an id or a row has a column that the judge adds."""
    seen: dict[bytes, int] = {}
    for row in _rows(job):
        where = f"{job.source} line {row.number}"
        try:
            id = parse_case(row.read(), job.task.name).id
        except InvalidInput:
            continue
        except DataError as problem:
            raise DataError(f"{where}: {problem}") from None
        digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()  # ids may be as long as texts
        if digest in seen:
            raise DataError(
                f"{where}: has the same id as line {seen[digest]} (a row without `id` is identified by its texts); "
                "give every row its own id, or remove the duplicate"
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
            judge = ModelClient("judge", job.judge, client)
            if job.generator is None:
                return _run(job, Models(judge), cache, account, restart, progress)
            endpoint = job.generator.endpoint
            shared = limiter if endpoint.base_url == job.judge.endpoint.base_url else None
            with closing(Client(endpoint, cache, f"{account}:generator", shared)) as client:
                models = Models(judge, ModelClient("generator", job.generator, client))
                return _run(job, models, cache, account, restart, progress)


def _run(
    job: Job, models: Models, cache: CompletionCache, account: str, restart: bool, progress: Progress
) -> dict[str, Any]:
    job_settings = settings(job)
    outputs = () if _is_of(job, job_settings) else (job.out, job.dropped, job.quarantine, job.report)
    with open_ledger(job.parts, job_settings, restart, outputs=outputs) as ledger:
        if not (ledger.folder / _ACCOUNT).is_file():
            with atomic(ledger.folder / _ACCOUNT) as file:
                file.write(account.encode())
        try:
            _judge(job, models, ledger, progress)
        except (ConfigError, EngineError):
            if not any(cache.usage(f"{account}:{name}").requests for name in ("judge", "generator")):
                ledger.remove()  # nothing was paid for: the next run may have other settings
            raise
        if file_digest(job.source) != job_settings["input_sha256"]:
            raise DataError(f"{job.source}: changed during the run; run with --restart when it is complete")
        usage: dict[str, Usage] = {model.name: cache.usage(f"{account}:{model.name}") for model in _clients(models)}
        return _finish(job, ledger, job_settings, usage)


def _is_of(job: Job, settings: Mapping[str, Any]) -> bool:
    """Whether the same job has finished before: then only its failed rows are repeated."""
    try:
        return bool(json.loads(job.report.read_bytes())["settings"] == settings)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _clients(models: Models) -> list[ModelClient]:
    return [model for model in (models.judge, models.generator) if model]


def _judge(job: Job, models: Models, ledger: Ledger, progress: Progress) -> None:
    """Commit all unfinished parts, and redo those in which the endpoint failed."""
    finished: dict[int, bool] = {}

    def pending() -> Iterator[_Row]:
        for row in _rows(job):
            if row.part not in finished:
                finished[row.part] = ledger.finished(row.part) and not ledger.record(row.part)["statuses"].get("failed")
            if finished[row.part]:
                progress(1)
            else:
                yield row

    pool = ThreadPoolExecutor(job.threads, thread_name_prefix="judge")
    try:
        results = _in_order(pool, lambda row: _judge_row(row, job.task, models), pending(), job.threads * LOOKAHEAD)
        failures = 0
        for part, rows in itertools.groupby(results, key=lambda result: result[0].part):
            judged = []
            for row, finding, counts in rows:
                if finding.status != "broken":
                    failures = failures + 1 if finding.status == "failed" else 0
                if failures == MAX_FAILURES:
                    raise EngineError(
                        f"{job.judge.endpoint.where}: {failures} rows failed one after the other, the last one with: "
                        f"{finding.reason}. Completions are cached; run the same command again to resume"
                    )
                judged.append((row, finding, counts))
                progress(1)
            ledger.commit(part, _record(judged))
    except BaseException:
        for model in _clients(models):
            model.client.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)  # waits for requests in flight: they are paid for


_JudgedRow = tuple[_Row, Finding, Counter[str]]


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[_Row], _JudgedRow], rows: Iterable[_Row], ahead: int
) -> Iterator[_JudgedRow]:
    """The results of `work` in the order of the rows; at most `ahead` rows are in flight."""
    in_flight: deque[Future[_JudgedRow]] = deque()
    for row in rows:
        in_flight.append(pool.submit(work, row))
        if len(in_flight) == ahead:
            yield in_flight.popleft().result()
    while in_flight:
        yield in_flight.popleft().result()


def _judge_row(row: _Row, task: LabelTask | CompareTask, models: Models) -> _JudgedRow:
    counts: Counter[str] = Counter()
    try:
        return row, task.judge(parse_case(row.read(), task.name), models, counts), counts
    except InvalidInput as error:
        return row, Finding("broken", str(error)), counts
    except EngineError as error:
        # The completions of a row that failed count as requested; its judgements do not count.
        requested = Counter({name: count for name, count in counts.items() if name.endswith(" answers")})
        return row, Finding("failed", str(error)), requested


def _record(judged: list[_JudgedRow]) -> dict[str, Any]:
    """The record of a part: the lines to write, and the counts."""
    reasons: dict[str, Counter[str]] = {"dropped": Counter(), "broken": Counter(), "failed": Counter()}
    sums: Counter[str] = Counter()
    kept, dropped, quarantine = [], [], []
    for row, finding, counts in judged:
        sums += counts
        kept += [line_of(output) for output in finding.rows]
        dropped += [line_of({"line": row.number, **output}) for output in finding.dropped]
        if finding.status != "kept":
            reason = reason_kind(finding.reason) if finding.status == "broken" else finding.reason
            reasons[finding.status][reason] += 1
        if finding.status in ("broken", "failed"):
            raw = row.shard.raw(row.index)
            entry = {"line": row.number, "status": finding.status, "reason": finding.reason, **raw}
            quarantine.append(line_of(entry))
    return {
        "statuses": Counter(finding.status for _, finding, _ in judged),
        "reasons": reasons,
        "counts": sums,
        "kept": kept,
        "dropped": dropped,
        "quarantine": quarantine,
    }


def _finish(job: Job, ledger: Ledger, settings: Mapping[str, Any], usage: Mapping[str, Usage]) -> dict[str, Any]:
    """Join the parts; the output appears last, so that it is there only if everything is."""
    statuses: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    parts = list(itertools.takewhile(ledger.finished, itertools.count()))
    for part in parts:
        record = ledger.record(part)
        statuses.update(record["statuses"])
        counts.update(record["counts"])
        for status, of_status in record["reasons"].items():
            reasons[status].update(of_status)
    result = report(job, settings, statuses, reasons, counts, usage)
    for path, lines in ((job.dropped, "dropped"), (job.quarantine, "quarantine")):
        _join(path, ledger, parts, lines)
    with atomic(job.report) as file:
        file.write(json.dumps(result, indent=2, sort_keys=True).encode() + b"\n")
    _join(job.out, ledger, parts, "kept")
    ledger.remove()
    return result


def _join(path: Path, ledger: Ledger, parts: Iterable[int], lines: str) -> None:
    with atomic(path, private=lines != "kept") as file:
        for part in parts:
            file.writelines(line.encode() + b"\n" for line in ledger.record(part)[lines])
