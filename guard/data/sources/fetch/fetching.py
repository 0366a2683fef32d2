"""Fetching raw files from their public repositories: every byte is compared with the description before it counts."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from guard.data.sources.fetch.downloads import Place, RemoteFile, Wanted, select
from guard.data.sources.fetch.extract import Extract, extract
from guard.data.sources.fetch.transfer import SLACK, Body, Hosts, Patience, Session, download, hosts, session
from guard.digest import file_digest
from guard.errors import DataError
from guard.jobs.atomic import atomic

JOBS = 4
FINGERPRINTS = (
    "fingerprints/ (hashes of held-out benchmarks, which decontamination needs) has no upstream: it comes with the "
    "project's data root, or give your own files with --against"
)

State = Literal["present", "missing", "wrong", "fetched", "failed"]
Progress = Callable[[str, int], None]  # the path of a raw file, bytes that came (negative: that count no more)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a raw file. `problem` tells why it could not be had."""

    wanted: Wanted
    address: str
    state: State
    problem: str | None = None


def fetch(
    names: Sequence[str],
    root: Path,
    base_url: str | None = None,
    *,
    jobs: int = JOBS,
    patience: Patience | None = None,
    progress: Progress | None = None,
    taxonomy: Path | None = None,
) -> list[Fetched]:
    """All files of the raw folders and sources named (default: all), fetched where they are not there already.

    Raises DataError, when all are done, with a line for each that could not be had.
    """
    served = hosts(base_url)
    done = attempt(survey(select(names, taxonomy), root, served), root, served, jobs, patience, progress)
    if problems := [one.problem for one in done if one.problem]:
        raise DataError("\n".join(problems))
    return done


def survey(wanted: Iterable[Wanted], root: Path, served: Hosts) -> list[Fetched]:
    """The state of each file under `root`: present (the digest is right), missing or wrong. Nothing is fetched."""
    return [Fetched(one, served.address(one.upstream[0][0]), _state(one, root)) for one in wanted]


def _state(one: Wanted, root: Path) -> State:
    path = root / one.path
    try:
        if path.stat().st_size != one.file.size:
            return "wrong"
        return "present" if file_digest(path) == one.file.sha256 else "wrong"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "wrong"


def attempt(
    found: Sequence[Fetched],
    root: Path,
    served: Hosts,
    jobs: int = JOBS,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> list[Fetched]:
    """What became of the files of a survey, in its order. A file appears whole and verified, or is left as it was."""
    groups: dict[Any, list[Fetched]] = {}  # extracts of one upstream file share its transfer
    for one in found:
        if one.state != "present":
            groups.setdefault(one.wanted.upstream if one.wanted.file.extract else one.wanted.path, []).append(one)
    done = {one.wanted.path: one for one in found}
    with session(served, patience) as opened, ThreadPoolExecutor(jobs) as pool:
        count = progress or (lambda path, size: None)
        futures = [pool.submit(_group, opened, group, root, count) for group in groups.values()]
        try:
            for future in as_completed(futures):
                done |= {one.wanted.path: one for one in future.result()}
        except BaseException:
            opened.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[one.wanted.path] for one in found]


def _group(opened: Session, group: list[Fetched], root: Path, count: Progress) -> list[Fetched]:
    rules = {one.wanted.path: one.wanted.file.extract for one in group if one.wanted.file.extract}
    try:
        made = _extracts(opened, group[0].wanted.upstream, rules) if rules else {}
    except (DataError, OSError) as problem:
        return [_failed(one, problem) for one in group]
    done = []
    for one in group:
        try:
            if rules:
                _write(one.wanted, made[one.wanted.path], root, count)
            else:
                _plain(opened, one.wanted, root, count)
            done.append(replace(one, state="fetched"))
        except (DataError, OSError) as problem:
            done.append(_failed(one, problem))
    return done


def _failed(one: Fetched, problem: DataError | OSError) -> Fetched:
    told = f"cannot be written: {problem.strerror or problem}" if isinstance(problem, OSError) else str(problem)
    return replace(one, state="failed", problem=f"{one.wanted.path}: {told}")


def _plain(opened: Session, wanted: Wanted, root: Path, count: Progress) -> None:
    target = root / wanted.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as out:
        body = Body(out, wanted.file.size + SLACK, lambda size: count(wanted.path, size))
        _first(opened, wanted.upstream[0], body, wanted.file)


def _first(opened: Session, places: tuple[Place, ...], body: Body, file: RemoteFile | None) -> None:
    """Fills `body` from the first place that has the described bytes; DataError tells what each place answered."""
    problems = []
    for place in places:
        try:
            address = download(opened, place, body, file.sha256 if file else None)
            if file is not None:
                _compare(file, body.size, body.sha256, address)
            return
        except DataError as problem:
            problems.append(str(problem))
            body.restart()
    raise DataError("; then ".join(problems))


def _compare(file: RemoteFile, size: int, sha256: str, what: str) -> None:
    if (size, sha256) != (file.size, file.sha256):
        raise DataError(
            f"{what}: wanted {file.size} bytes of sha256 {file.sha256}, got {size} of {sha256}; it was not kept"
        )


def _extracts(opened: Session, upstream: tuple[tuple[Place, ...], ...], rules: dict[str, Extract]) -> dict[str, bytes]:
    """The extracts of the same upstream files, by the path of the raw file. One upstream file is open at a time."""
    made = {path: bytearray() for path in rules}
    limit = max(rule.limit for rule in rules.values())
    for places in upstream:
        with tempfile.TemporaryFile() as file:
            _first(opened, places, Body(file, limit), None)
            for path, rule in rules.items():
                made[path] += extract(rule, file, places[0].path)
    return {path: bytes(data) for path, data in made.items()}


def _write(wanted: Wanted, data: bytes, root: Path, count: Progress) -> None:
    _compare(wanted.file, len(data), hashlib.sha256(data).hexdigest(), "the extract")
    target = root / wanted.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as out:
        out.write(data)
    count(wanted.path, len(data))
