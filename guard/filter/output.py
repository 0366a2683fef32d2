"""Where the kept rows go: one file for all inputs, or a folder with a file for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.errors import DataError
from guard.filter.inputs import DATASET_STATE, Source
from guard.filter.job import Job
from guard.jobs.atomic import atomic
from guard.jobs.paths import check_output
from guard.jobs.rows import PACKED, RowFile, format_of, packed

_DATASET_INFO, _DATASET_SPLITS = "dataset_info.json", "dataset_dict.json"


@dataclass(frozen=True, slots=True)
class Output:
    """A file of kept rows, with the places of the sources that it has the rows of."""

    path: Path
    sources: tuple[int, ...]


def outputs_of(job: Job, sources: Sequence[Source]) -> list[Output]:
    """The output files. DataError or ConfigError where they cannot be written, or would replace an input."""
    if not is_folder(job.out):
        outputs = [Output(job.out, tuple(range(len(sources))))]
    else:
        outputs = [Output(job.out / source.name, (place,)) for place, source in enumerate(sources)]
        if job.out.exists() and not job.out.is_dir():
            raise DataError(f"{job.out}: is a file; give a name with a suffix of rows, or that of a folder")
        if not job.out.resolve().parent.is_dir():
            raise DataError(f"{job.out}: there is no folder {job.out.parent}; create it first")
    for output in outputs:
        formats = {format_of(sources[place].path): sources[place].path for place in output.sources}
        for format, path in formats.items():
            if format != format_of(output.path):
                raise DataError(
                    f"{path} is {format}; {output.path} must have the same format, or be a folder (no suffix)"
                )
    for path in (job.quarantine, job.report, *(() if is_folder(job.out) else (job.out,))):
        check_output(path)
    inputs = {source.path.resolve(): source.path for source in sources}
    written: set[Path] = set()
    for path in (*(output.path for output in outputs), job.quarantine, job.report, job.page):
        if (same := inputs.get(path.resolve())) is not None:
            raise DataError(f"{path}: is the input {same}, which must not be replaced; choose another output")
        if path.resolve() in written:
            raise DataError(f"{path}: two results would be written to it; give each its own name")
        written.add(path.resolve())
    return outputs


def is_folder(out: Path) -> bool:
    """Whether the output is a folder: one that exists, or a name without suffix."""
    name = out.with_suffix("") if out.suffix.lower() in PACKED else out
    return out.is_dir() or not name.suffix


def check_joinable(output: Output, rows: Sequence[RowFile], sources: Sequence[Source]) -> None:
    """DataError where the rows of the sources cannot be in one file."""
    first = output.sources[0]
    for place in output.sources[1:]:
        if reason := rows[first].difference(rows[place]):
            raise DataError(
                f"{sources[place].path}: cannot follow {sources[first].path} in {output.path}: {reason}; "
                "give a folder as the output (a name without suffix), or filter the files one by one"
            )


def write(output: Output, rows: RowFile, parts: Iterator[Path]) -> None:
    """Joins the kept rows of the parts."""
    output.path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(output.path) as file, packed(file, output.path) as unpacked:
        rows.join(parts, unpacked)


def write_dataset_states(job: Job, sources: Sequence[Source], identity: Mapping[str, Any]) -> None:
    """Makes the folders of saved data sets complete, so that `datasets.load_from_disk` opens them."""
    if not is_folder(job.out):
        return
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    for source in sources:
        given, made = source.path.parent, (job.out / source.name).parent
        if not (given / DATASET_STATE).is_file() or (made / DATASET_STATE).is_file():
            continue
        _rewrite(given / DATASET_STATE, made / DATASET_STATE, {"_fingerprint": fingerprint, "_format_columns": None})
        if (given / _DATASET_INFO).is_file():  # the schema of the files says more than it: there are new columns
            _rewrite(given / _DATASET_INFO, made / _DATASET_INFO, {"features": None, "splits": None})
        splits = given.parent / _DATASET_SPLITS
        if splits.is_file() and made != job.out:
            with atomic(made.parent / _DATASET_SPLITS) as file:
                file.write(splits.read_bytes())


def _rewrite(given: Path, made: Path, changes: Mapping[str, Any]) -> None:
    with atomic(made) as file:
        file.write(json.dumps({**json.loads(given.read_bytes()), **changes}, indent=2).encode())
