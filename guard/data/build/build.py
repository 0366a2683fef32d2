"""The data build: source descriptions in; parquet files per split, a manifest and a reason for every dropped row out.

Each source is ingested on its own, row by row, into a part on disk. What depends on all rows is then decided on an
index of hashes, and the parts are copied into their splits. Memory does not grow with the texts, and a killed build
resumes after its last finished part.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from guard import policy as policies
from guard.data.build import config, manifest, mix, row_index, select, source_part, write
from guard.data.build.config import BuildConfig
from guard.data.build.rule_files import RuleWriter
from guard.data.ingest import decontaminate, ingest, source_rows, user_description
from guard.data.ingest.decontaminate import Fingerprints
from guard.data.sources import description as sources
from guard.data.sources import topics
from guard.data.sources.description import Source
from guard.data.sources.topics import Topics
from guard.digest import file_digest
from guard.errors import ConfigError, DataError, GuardError, need
from guard.jobs.ledger import Ledger, open_ledger
from guard.jobs.lock import locked
from guard.policy import Policy
from guard.policy.crosswalk import Crosswalk

_NOT_FOR_TRAINING = ("development", "unlabelled")
_INGEST_PACKAGES = ("ftfy", "py3langid", "rensa", "pyarrow")  # whose versions a part depends on
Progress = Callable[[str, int], None]  # called with the name of each finished source, and the number of sources


@dataclass(frozen=True, slots=True)
class Task:
    """The input of one part: a source, the folder that its files lie under, and its crosswalk."""

    source: Source
    root: Path
    crosswalk: Crosswalk | None
    drop_broken: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class _Context:
    """What all parts of a build share."""

    settings: BuildConfig
    policy: Policy
    held_out: Fingerprints
    against: Fingerprints | None
    topics: Mapping[str, Topics]  # of sources of rules


def build(
    config_path: Path,
    root: Path | None,
    out: Path,
    against: Sequence[Path] = (),
    allow_count_mismatch: bool = False,
    allow_noncommercial: bool = False,
    jobs: int = 1,
    finalize: Callable[[Path], None] | None = None,
    progress: Progress = lambda name, total: None,
) -> dict[str, Any]:
    """Build a data set into the folder `out`, which appears complete or not at all; return its manifest.

    Equal configurations and raw files give equal bytes for any number of `jobs` (processes); a killed build resumes.
    root: the folder that holds `raw/` and the fingerprints; None if the data are all the user's own. against: files of
    held-out texts beside those of the configuration. finalize: called with the finished folder before
    it appears, to add files to it (see `guard.data.dataset.reports`). Raises ConfigError for a bad configuration or a
    licence that is not allowed; DataError for a missing or broken file, for a source whose counts differ from its
    description unless `allow_count_mismatch`, and where another build writes to `out`.
    """
    need("datasets", "data")
    settings = config.load(config_path)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _check_target(out)
        policy = policies.load(settings.policy)
        mix.check_category_caps(settings.mixing, policy.codes)
        tasks = _tasks(settings, config_path, policy, root or Path())
        if root is None:
            root = _no_root(settings, tasks, config_path)
        _check_licences(tasks, allow_noncommercial)
        test_sets = [*(config_path.parent / path for path in settings.against), *against]
        context = _Context(
            settings,
            policy,
            _load_fingerprints(settings, root),
            _fingerprint_files(test_sets),
            _topics(tasks, config.taxonomy_folder(settings, config_path)),
        )
        parts = out.with_name(f".{out.name}.parts")
        with open_ledger(parts, _input_digests(context, tasks, root, test_sets), discard=True) as ledger:
            try:
                _ingest_all(context, tasks, ledger, jobs, progress)
                result = _assemble(context, tasks, ledger, out, allow_count_mismatch, finalize)
            except GuardError:
                ledger.remove()  # the input is at fault, and will differ next time
                raise
            ledger.remove()
        return result


def _check_target(out: Path) -> None:
    """DataError if `out` holds anything but an earlier build: it is about to be replaced."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / manifest.NAME).is_file())):
        raise DataError(f"{out} exists and is not an earlier build (it has no {manifest.NAME}); choose another --out")


def _tasks(settings: BuildConfig, config_path: Path, policy: Policy, root: Path) -> list[Task]:
    taxonomy = config.taxonomy_folder(settings, config_path)
    trained = [sources.load(use.source, taxonomy) for use in settings.sources]
    for source in trained:
        if source.role in _NOT_FOR_TRAINING:
            raise ConfigError(f"source {source.name} has the role {source.role}; it must not be listed under `sources`")
    tasks = [Task(source, root, sources.load_crosswalk(source, taxonomy)) for source in trained]
    for entry in settings.data:
        described = user_description.describe(entry, config_path.parent, policy, taxonomy)
        tasks.append(Task(described.source, described.root, described.crosswalk, entry.on_broken == "drop"))
    development = [sources.load(name, taxonomy) for name in settings.development]
    tasks += [Task(source, root, sources.load_crosswalk(source, taxonomy)) for source in development]
    for task in tasks:
        sources.check_codes(task.source, task.crosswalk, policy)
    return tasks


def _topics(tasks: Sequence[Task], taxonomy: Path | None) -> dict[str, Topics]:
    names = {task.source.rule.topics for task in tasks if task.source.rule is not None}
    return {name: topics.load(name, taxonomy) for name in sorted(names)}


def _no_root(settings: BuildConfig, tasks: Sequence[Task], config_path: Path) -> Path:
    """A data root that is never looked at; ConfigError if something lies under it."""
    needed = [task.source.name for task in tasks if not task.source.own and task.source.within == "root"]
    if needed or settings.decontaminate is not None:
        what = f"source {needed[0]} lies" if needed else "`decontaminate` names a folder"
        raise ConfigError(f"{config_path}: {what} under a data root; give it with --root DIR")
    return Path()


def _check_licences(tasks: Sequence[Task], allowed: bool) -> None:
    forbidden = [task.source for task in tasks if task.source.noncommercial]
    if forbidden and not allowed:
        listed = "; ".join(f"{source.name} ({source.licence})" for source in forbidden)
        raise ConfigError(
            f"sources whose licence forbids commercial use: {listed}; leave them out, or build with "
            "--allow-noncommercial, and the model must not be used commercially"
        )


def _load_fingerprints(settings: BuildConfig, root: Path) -> Fingerprints:
    if settings.decontaminate is None:
        return decontaminate.fingerprint([])
    return decontaminate.load(root / settings.decontaminate)


def _fingerprint_files(paths: Sequence[Path]) -> Fingerprints | None:
    return functools.reduce(decontaminate.join, map(decontaminate.from_file, paths)) if paths else None


def _input_digests(context: _Context, tasks: Sequence[Task], root: Path, test_sets: Sequence[Path]) -> dict[str, Any]:
    """Digests of everything that a part depends on: parts made from other inputs are not reused."""
    settings = context.settings
    folder = None if settings.decontaminate is None else root / settings.decontaminate
    inputs = {
        "cleaning": [dataclasses.asdict(settings.cleaning), settings.languages],
        "policy": context.policy.digest,
        "sources": [dataclasses.asdict(task.source) for task in tasks],
        "crosswalks": [None if task.crosswalk is None else dataclasses.asdict(task.crosswalk) for task in tasks],
        "files": [sources.digests(task.source, task.root) for task in tasks],
        "held_out": [file_digest(path) for path in (*(sorted(folder.glob("*.gz")) if folder else ()), *test_sets)],
        "versions": {name: importlib.metadata.version(name) for name in _INGEST_PACKAGES},
    }
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest() for name, value in inputs.items()
    }


def _ingest_all(context: _Context, tasks: Sequence[Task], ledger: Ledger, jobs: int, progress: Progress) -> None:
    """Write every part that is not finished yet, in `jobs` processes."""
    pending = [number for number in range(len(tasks)) if not ledger.finished(number)]
    if min(jobs, len(pending)) <= 1:
        for number in pending:
            _ingest_source(context, tasks[number], ledger, number)
            progress(tasks[number].source.name, len(pending))
        return
    # The largest first, so that no process is left alone with one at the end.
    pending.sort(key=lambda number: -_size(tasks[number]))
    spawn = multiprocessing.get_context("spawn")
    theirs, ours = spawn.Pipe(duplex=False)
    workers = min(jobs, len(pending))
    with theirs, ours, ProcessPoolExecutor(workers, spawn, initializer=_start, initargs=(context, theirs)) as pool:
        try:
            for name in pool.map(_ingest_in_process, [(tasks[number], ledger, number) for number in pending]):
                progress(name, len(pending))
        except BaseException:
            ours.close()  # or the pool would wait for what its processes are at
            raise


def _size(task: Task) -> int:
    return sum(path.stat().st_size for _, path in sources.paths(task.source, task.root))


_process_context: list[_Context] = []  # of a worker process; holds one


def _start(context: _Context, parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the parent as well, which ends this process
    _process_context.append(context)
    threading.Thread(target=_end_after, args=(parent,), name="guard-parent", daemon=True).start()


def _end_after(parent: Connection) -> None:
    """Ends the process when its parent closes the pipe or has died in any way: what it still wrote would lie in the way
    of the next build."""
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    os._exit(1)


def _ingest_in_process(work: tuple[Task, Ledger, int]) -> str:
    task, ledger, number = work
    _ingest_source(_process_context[0], task, ledger, number)
    return task.source.name


def _ingest_source(context: _Context, task: Task, ledger: Ledger, number: int) -> None:
    settings = context.settings
    rows = source_rows.each(task.source, task.root, task.crosswalk, context.policy)
    screened = ingest.screen(rows, task.source, context.held_out, task.drop_broken)
    prepared = ingest.prepare(screened, settings.cleaning, settings.languages, context.held_out, context.against)
    counts = source_part.write_part(prepared, ledger, number)
    record = {
        "read": counts.read,
        "before": ingest.label_counts(counts.before),
        "after": ingest.label_counts(counts.after),
        "dropped": dict(counts.dropped),
        "files": sources.digests(task.source, task.root),
    }
    ledger.commit(number, record)


def _assemble(
    context: _Context,
    tasks: Sequence[Task],
    ledger: Ledger,
    out: Path,
    allow_count_mismatch: bool,
    finalize: Callable[[Path], None] | None,
) -> dict[str, Any]:
    """Select the rows, write the splits and the manifest, and move the finished folder to `out`."""
    records = [ledger.record(number) for number in range(len(tasks))]
    described = [task.source for task in tasks]
    mismatches = [
        line
        for source, record in zip(described, records, strict=True)
        for line in ingest.count_mismatches(source, record["before"], record["after"])
    ]
    if mismatches and not allow_count_mismatch:
        hint = "look with `guard data check`; --allow-count-mismatch builds all the same"
        raise DataError("; ".join([*mismatches, hint]))
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        index = row_index.read_index(ledger, len(tasks))
        prompts, judged = (
            row_index.Signatures(ledger, len(tasks), name, Path(scratch) / name)
            for name in (source_part.PROMPTS, source_part.JUDGED)
        )
        rules = {key: rule for part in range(len(tasks)) for key, rule in source_part.read_rules(ledger, part).items()}
        selection = select.select_rows(index, context.settings, described, prompts, judged, rules)
        if not selection.kept.any():
            raise DataError(f"no row is left: {_drop_summary(records)}")
        folder = Path(scratch) / "new"
        folder.mkdir()
        writer = RuleWriter(described, context.topics, rules, index, selection, context.settings)
        files = write.write_splits(ledger, described, index, selection, writer, folder)
        warnings = [*mismatches, *_unpinned(described)]
        if not context.held_out.prompts and context.against is None:
            warnings.append("nothing is held out: name `decontaminate` or `against`, or rows may repeat your test sets")
        result = manifest.build_manifest(
            context.settings, context.policy, described, records, index, selection, warnings, files, writer.summary()
        )
        (folder / manifest.NAME).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if finalize is not None:
            finalize(folder)
        if out.exists():
            out.rename(Path(scratch) / "old")
        os.replace(folder, out)
    return result


def _drop_summary(records: Sequence[dict[str, Any]]) -> str:
    dropped = sum((Counter(record["dropped"]) for record in records), Counter[str]())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items()))
    return f"{sum(record['read'] for record in records):,} were read; dropped: {reasons or 'as duplicates'}"


def _unpinned(described: Sequence[Source]) -> Iterator[str]:
    for source in described:
        if source.hub is not None and source.hub.revision is None:
            yield f"source {source.name}: no revision of {source.hub.dataset} is pinned; it may change"
