"""Fetching raw files from their public repositories: every byte is compared with the description before it counts."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from guard.data.sources.fetch.downloads import RawFile, Selected, UpstreamFile, select
from guard.data.sources.fetch.extract import Extract, extract
from guard.data.sources.fetch.transfer import (
    RETRY,
    SLACK,
    TIMEOUTS,
    Body,
    Hosts,
    Session,
    Timeouts,
    download,
    hosts_at,
    session,
)
from guard.digest import file_digest
from guard.errors import DataError
from guard.jobs.atomic import atomic
from guard.llm.retry import RetryPolicy

JOBS = 4
FINGERPRINTS = (
    "fingerprints/ (hashes of held-out benchmarks, which decontamination needs) has no upstream: it comes with the "
    "project's data root, or give your own files with --against"
)

State = Literal["present", "missing", "wrong", "fetched", "failed"]
Progress = Callable[[str, int], None]  # the path of a raw file, bytes received (negative: those are void)


@dataclass(frozen=True, slots=True)
class Status:
    """Where a raw file stands. `error` says why it could not be fetched."""

    selected: Selected
    url: str
    state: State
    error: str | None = None


def fetch(
    names: Sequence[str],
    root: Path,
    base_url: str | None = None,
    *,
    jobs: int = JOBS,
    retry: RetryPolicy = RETRY,
    timeouts: Timeouts = TIMEOUTS,
    progress: Progress | None = None,
    taxonomy: Path | None = None,
) -> list[Status]:
    """All files of the raw folders and sources named (default: all), fetched where they are not there already.

    Raises DataError, when all are done, with a line for each that could not be fetched.
    """
    hosts = hosts_at(base_url)
    files = fetch_missing(check(select(names, taxonomy), root, hosts), root, hosts, jobs, retry, timeouts, progress)
    if errors := [file.error for file in files if file.error]:
        raise DataError("\n".join(errors))
    return files


def check(selected: Iterable[Selected], root: Path, hosts: Hosts) -> list[Status]:
    """The state of each file under `root`: present (the digest is right), missing or wrong. Nothing is fetched."""
    return [Status(one, hosts.url(one.upstream[0][0]), _state(one, root)) for one in selected]


def _state(selected: Selected, root: Path) -> State:
    path = root / selected.path
    try:
        if path.stat().st_size != selected.file.size:
            return "wrong"
        return "present" if file_digest(path) == selected.file.sha256 else "wrong"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "wrong"


def fetch_missing(
    checked: Sequence[Status],
    root: Path,
    hosts: Hosts,
    jobs: int = JOBS,
    retry: RetryPolicy = RETRY,
    timeouts: Timeouts = TIMEOUTS,
    progress: Progress | None = None,
) -> list[Status]:
    """The states after fetching what `check` did not find present, in its order.

    A file appears whole and verified, or is left as it was.
    """
    groups: dict[Any, list[Status]] = {}  # extracts of one upstream file share its transfer
    for one in checked:
        if one.state != "present":
            group = one.selected.upstream if one.selected.file.extract else one.selected.path
            groups.setdefault(group, []).append(one)
    states = {one.selected.path: one for one in checked}
    with session(hosts, retry, timeouts) as opened, ThreadPoolExecutor(jobs) as pool:
        count = progress or (lambda path, size: None)
        futures = [pool.submit(_fetch_group, opened, group, root, count) for group in groups.values()]
        try:
            for future in as_completed(futures):
                states |= {one.selected.path: one for one in future.result()}
        except BaseException:
            opened.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [states[one.selected.path] for one in checked]


def _fetch_group(opened: Session, group: list[Status], root: Path, count: Progress) -> list[Status]:
    rules = {one.selected.path: one.selected.file.extract for one in group if one.selected.file.extract}
    try:
        extracts = _extracts(opened, group[0].selected.upstream, rules) if rules else {}
    except (DataError, OSError) as error:
        return [_failed(one, error) for one in group]
    states = []
    for one in group:
        try:
            if rules:
                _write_extract(one.selected, extracts[one.selected.path], root, count)
            else:
                _fetch_file(opened, one.selected, root, count)
            states.append(replace(one, state="fetched"))
        except (DataError, OSError) as error:
            states.append(_failed(one, error))
    return states


def _failed(one: Status, error: DataError | OSError) -> Status:
    reason = f"cannot be written: {error.strerror or error}" if isinstance(error, OSError) else str(error)
    return replace(one, state="failed", error=f"{one.selected.path}: {reason}")


def _fetch_file(opened: Session, selected: Selected, root: Path, count: Progress) -> None:
    target = root / selected.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as out:
        body = Body(out, selected.file.size + SLACK, lambda size: count(selected.path, size))
        _download_first(opened, selected.upstream[0], body, selected.file)


def _download_first(opened: Session, copies: tuple[UpstreamFile, ...], body: Body, file: RawFile | None) -> None:
    """Fills `body` from the first copy that has the described bytes; DataError says what each answered."""
    errors = []
    for copy in copies:
        try:
            url = download(opened, copy, body, file.sha256 if file else None)
            if file is not None:
                _verify(file, body.size, body.sha256, url)
            return
        except DataError as error:
            errors.append(str(error))
            body.restart()
    raise DataError("; then ".join(errors))


def _verify(file: RawFile, size: int, sha256: str, what: str) -> None:
    if (size, sha256) != (file.size, file.sha256):
        raise DataError(
            f"{what}: expected {file.size} bytes of sha256 {file.sha256}, got {size} of {sha256}; it was not kept"
        )


def _extracts(
    opened: Session, upstream: tuple[tuple[UpstreamFile, ...], ...], rules: dict[str, Extract]
) -> dict[str, bytes]:
    """The extracts of the same upstream files, by the path of the raw file. One upstream file is open at a time."""
    extracts = {path: bytearray() for path in rules}
    limit = max(rule.limit for rule in rules.values())
    for copies in upstream:
        with tempfile.TemporaryFile() as file:
            _download_first(opened, copies, Body(file, limit), None)
            for path, rule in rules.items():
                extracts[path] += extract(rule, file, copies[0].path)
    return {path: bytes(data) for path, data in extracts.items()}


def _write_extract(selected: Selected, data: bytes, root: Path, count: Progress) -> None:
    _verify(selected.file, len(data), hashlib.sha256(data).hexdigest(), "the extract")
    target = root / selected.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as out:
        out.write(data)
    count(selected.path, len(data))
