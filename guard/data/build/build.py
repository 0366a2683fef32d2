"""The data build: described sources in, parquet files of each split, a manifest and a report of every drop out.

Each source is taken in by itself, row by row, into a part on disk; then what has to be decided over all rows is decided
on a table of hashes; then the parts are copied into their splits. Memory does not grow with the texts, and a build that
was killed goes on after its last finished part.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard import policy as policies
from guard.digest import file_digest
from guard.data.dataset import open
from guard.data.build import config, manifest, mix, source_part, select, write, row_index
from guard.data.ingest import decontaminate, user_description, ingest, source_rows
from guard.data.sources import description as sources
from guard.data.build.config import BuildConfig
from guard.policy.crosswalk import Crosswalk
from guard.data.ingest.decontaminate import Fingerprints
from guard.data.sources.description import Source
from guard.errors import ConfigError, DataError, GuardError, need
from guard.jobs.ledger import Ledger, open_ledger
from guard.policy import Policy

_NOT_FOR_TRAINING = ("development", "unlabelled")
_WORKING = ("ftfy", "py3langid", "rensa", "pyarrow")  # packages that a part depends on
Progress = Callable[[str, int], None]  # told the name of each part that is done, and how many there are


@dataclass(frozen=True, slots=True)
class Task:
    """What a part is made of: a source, the folder its files start from, and its crosswalk."""

    source: Source
    root: Path
    crosswalk: Crosswalk | None
    drop_broken: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class _Shop:
    """What every part of a build is made with."""

    settings: BuildConfig
    policy: Policy
    held_out: Fingerprints
    against: Fingerprints | None


def build(
    config_path: Path,
    root: Path,
    out: Path,
    against: Sequence[Path] = (),
    allow_count_mismatch: bool = False,
    allow_noncommercial: bool = False,
    jobs: int = 1,
    report: bool = True,
    progress: Progress = lambda name, total: None,
) -> dict[str, Any]:
    """The manifest of the data set built into the folder `out`, which appears complete or not at all.

    The same configuration and raw files give the same bytes, however many `jobs` (processes) share the work; a build
    that was killed goes on. `against`: files of held-out texts beside those of the configuration. `report`: with the
    confound report and the data card. Raises ConfigError for
    a bad configuration or a licence that is not allowed; DataError for a missing or broken file, and for a source whose
    counts differ from its description unless `allow_count_mismatch`.
    """
    need("datasets", "data")
    settings = config.load(config_path)
    _check_target(out)
    policy = policies.load(settings.policy)
    mix.unknown_categories(settings.mixing, policy.codes)
    tasks = _tasks(settings, config_path, policy, root)
    _check_licences(tasks, allow_noncommercial)
    tests = [*(config_path.parent / path for path in settings.against), *against]
    shop = _Shop(settings, policy, _held_out(settings, root), _against(tests))
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = out.with_name(f".{out.name}.parts")
    with open_ledger(parts, _inputs(shop, tasks, root, tests), discard=True) as ledger:
        try:
            _take_all(shop, tasks, ledger, jobs, progress)
            told = _finish(shop, tasks, ledger, out, allow_count_mismatch, report)
        except GuardError:
            ledger.remove()  # the input is at fault, and will be another one next time
            raise
        ledger.remove()
    return told


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
    for own in settings.data:
        found = user_description.describe(own, config_path.parent, policy, taxonomy)
        tasks.append(Task(found.source, found.root, found.crosswalk, own.on_broken == "drop"))
    held = [sources.load(name, taxonomy) for name in settings.development]
    tasks += [Task(source, root, sources.load_crosswalk(source, taxonomy)) for source in held]
    for task in tasks:
        sources.check_codes(task.source, task.crosswalk, policy)
    return tasks


def _check_licences(tasks: Sequence[Task], allowed: bool) -> None:
    forbidden = [task.source for task in tasks if task.source.noncommercial]
    if forbidden and not allowed:
        named = "; ".join(f"{source.name} ({source.licence})" for source in forbidden)
        raise ConfigError(
            f"sources whose licence forbids commercial use: {named}; leave them out, or build with "
            "--allow-noncommercial, and the model must not be used commercially"
        )


def _held_out(settings: BuildConfig, root: Path) -> Fingerprints:
    if settings.decontaminate is None:
        return decontaminate.fingerprint([])
    return decontaminate.load(root / settings.decontaminate)


def _against(files: Sequence[Path]) -> Fingerprints | None:
    return functools.reduce(decontaminate.join, map(decontaminate.from_file, files)) if files else None


def _inputs(shop: _Shop, tasks: Sequence[Task], root: Path, tests: Sequence[Path]) -> dict[str, Any]:
    """All that a part depends on, as digests: parts of other inputs are worth nothing."""
    folder = None if shop.settings.decontaminate is None else root / shop.settings.decontaminate
    told = {
        "cleaning": [dataclasses.asdict(shop.settings.cleaning), shop.settings.languages],
        "policy": shop.policy.digest,
        "sources": [dataclasses.asdict(task.source) for task in tasks],
        "crosswalks": [None if task.crosswalk is None else dataclasses.asdict(task.crosswalk) for task in tasks],
        "files": [sources.digests(task.source, task.root) for task in tasks],
        "held_out": [file_digest(path) for path in (*(sorted(folder.glob("*.gz")) if folder else ()), *tests)],
        "versions": {name: importlib.metadata.version(name) for name in _WORKING},
    }
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest() for name, value in told.items()
    }


def _take_all(shop: _Shop, tasks: Sequence[Task], ledger: Ledger, jobs: int, progress: Progress) -> None:
    waiting = [number for number in range(len(tasks)) if not ledger.finished(number)]
    if min(jobs, len(waiting)) <= 1:
        for number in waiting:
            _take(shop, tasks[number], ledger, number)
            progress(tasks[number].source.name, len(waiting))
        return
    # The largest first, so that no process is left alone with one at the end.
    waiting.sort(key=lambda number: -_size(tasks[number]))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(waiting)), context, initializer=_start, initargs=(shop,)) as pool:
        try:
            for name in pool.map(_take_in_process, [(tasks[number], ledger, number) for number in waiting]):
                progress(name, len(waiting))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _size(task: Task) -> int:
    return sum(path.stat().st_size for _, path in sources.paths(task.source, task.root))


_in_process: list[_Shop] = []


def _start(shop: _Shop) -> None:
    _in_process.append(shop)


def _take_in_process(work: tuple[Task, Ledger, int]) -> str:
    task, ledger, number = work
    _take(_in_process[0], task, ledger, number)
    return task.source.name


def _take(shop: _Shop, task: Task, ledger: Ledger, number: int) -> None:
    settings = shop.settings
    read = source_rows.each(task.source, task.root, task.crosswalk, shop.policy)
    taken = ingest.take(read, task.source, shop.held_out, task.drop_broken)
    rows = ingest.fit(taken, settings.cleaning, settings.languages, shop.held_out, shop.against)
    counted = source_part.write_part(rows, ledger, number)
    record = {
        "read": counted.read,
        "before": ingest.label_counts(counted.before),
        "after": ingest.label_counts(counted.after),
        "dropped": dict(counted.dropped),
        "files": sources.digests(task.source, task.root),
    }
    ledger.commit(number, record)


def _finish(
    shop: _Shop, tasks: Sequence[Task], ledger: Ledger, out: Path, allow_count_mismatch: bool, report: bool
) -> dict[str, Any]:
    records = [ledger.record(number) for number in range(len(tasks))]
    described = [task.source for task in tasks]
    wrong = [
        line
        for source, record in zip(described, records, strict=True)
        for line in ingest.mismatches(source, record["before"], record["after"])
    ]
    if wrong and not allow_count_mismatch:
        raise DataError("; ".join([*wrong, "look with `guard data check`; --allow-count-mismatch builds all the same"]))
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        rows = row_index.read(ledger, len(tasks))
        prompts, judged = (
            row_index.Signatures(ledger, len(tasks), name, Path(scratch) / name) for name in (source_part.PROMPTS, source_part.JUDGED)
        )
        placed = select.place(rows, shop.settings, described, prompts, judged)
        if not placed.kept.any():
            raise DataError(f"no row is left: {_lost(records)}")
        folder = Path(scratch) / "new"
        folder.mkdir()
        files = write.write(ledger, described, rows, placed, folder)
        warnings = [*wrong, *_unpinned(described)]
        if not shop.held_out.prompts and shop.against is None:
            warnings.append("nothing is held out: name `decontaminate` or `against`, or rows may repeat your test sets")
        told = manifest.manifest(shop.settings, shop.policy, described, records, rows, placed, warnings, files)
        (folder / manifest.NAME).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if report:
            _report(folder)
        if out.exists():
            out.rename(Path(scratch) / "old")
        os.replace(folder, out)
    return told


def _lost(records: Sequence[dict[str, Any]]) -> str:
    dropped = sum((Counter(record["dropped"]) for record in records), Counter[str]())
    told = ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items()))
    return f"{sum(record['read'] for record in records):,} were read; dropped: {told or 'as duplicates'}"


def _report(folder: Path) -> None:
    """Writes the confound report and the card of the build in `folder`."""
    from guard.data.dataset.card import card
    from guard.data.dataset.confounds import measure as confounds
    from guard.data.dataset.confounds import outline
    from guard.data.dataset.confounds import report as confound_report

    path = folder / "train.parquet"
    stored = outline.read(path)
    if stored.columns.counted.any():
        chosen = outline.read_sample(path, confounds.sample(stored.columns.counted, 0))
        before, after = (confounds.report(stored.columns, by, chosen) for by in (stored.columns.base, stored.weights))
        told = json.dumps(confound_report.to_json(before, after), indent=1, ensure_ascii=False)
        (folder / open.CONFOUNDS).write_text(told + "\n", encoding="utf-8")
    card.write_card(folder)


def _unpinned(described: Sequence[Source]) -> Iterator[str]:
    for source in described:
        if source.hub is not None and source.hub.revision is None:
            yield f"source {source.name}: no revision of {source.hub.dataset} is pinned; it may change"
