"""Sets to evaluate on: public benchmarks from their files or the Hub, your own rows, and splits of built data.

A named benchmark is scored by the convention of its authors. Where its published row counts are sure, a file with
others is refused, because its numbers could not be compared; elsewhere the difference is told among the cautions.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from guard import policy as policies
from guard.conversation import Example
from guard.data.ingest.user_rows import read_labelled
from guard.data.sources import formats, hub, user_files
from guard.data.sources.description import LabelRule, Source, Text, local_copy
from guard.digest import file_digest
from guard.errors import DataError, InvalidInput
from guard.evaluate.file_sets import FILE, FILE_SETS
from guard.evaluate.hub_sets import CODES_OF, HUB_SETS
from guard.evaluate.suite import Benchmark, Case, Suite
from guard.policy import Policy

__all__ = ["BENCHMARKS", "Benchmark", "Case", "Suite", "data_folders", "load"]

BENCHMARKS: dict[str, Benchmark] = {**FILE_SETS, **HUB_SETS}
_DATA = "data:"


def load(name: str, root: Path | None, policy: Policy, columns: user_files.Mapping | None = None) -> Suite:
    """The set `name`: a benchmark under `root`, a file of one's own (read by `columns`), or `data:FOLDER:SPLIT`.

    Raises InvalidInput for a name that is none of these, DataError for a missing or broken file.
    """
    if name in BENCHMARKS:
        return _benchmark(name, root, policy)
    if name.startswith(_DATA):
        folder, _, split = name.removeprefix(_DATA).rpartition(":")
        if not folder or not split:
            raise InvalidInput(f"{name}: a split of built data is written data:FOLDER:SPLIT, like data:out/en:dev")
        return _split(name, Path(folder), split, policy)
    if formats.is_known(Path(name)):
        return _own(Path(name), policy, columns)
    raise InvalidInput(
        f"no benchmark {name!r}; give {', '.join(BENCHMARKS)} (see --root), a file of your own "
        f"({', '.join(formats.SUFFIXES)}), or data:FOLDER:SPLIT"
    )


Found = Iterable[tuple[str, Mapping[str, Any]]]  # the place of each record, and its columns


def _benchmark(name: str, root: Path | None, policy: Policy) -> Suite:
    benchmark = BENCHMARKS[name]
    if benchmark.hub is not None:
        cases, left_out = _cases(benchmark, _hub_records(name, benchmark, root or Path()), policy)
        return _suite(name, benchmark, _rows_digest(cases), cases, left_out, f"{benchmark.hub.dataset}")
    if root is None:
        raise InvalidInput(f"{name}: give --root, the folder that holds {benchmark.path} (from {benchmark.upstream})")
    path = root / benchmark.path
    raws = {found: _read(found, f"get it from {benchmark.upstream}") for found in _matches(path)}
    cases, left_out = _cases(benchmark, _file_records(raws), policy)
    digests = [hashlib.sha256(raw).hexdigest() for raw in raws.values()]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return _suite(name, benchmark, digest, cases, left_out, str(path))


def _cases(benchmark: Benchmark, records: Found, policy: Policy) -> tuple[tuple[Case, ...], int]:
    """The cases with what they say about this policy's codes, and how many records have none."""
    shared = _shared_codes(policy)
    cases: list[Case] = []
    left_out = 0
    for place, record in records:
        try:
            read = benchmark.read(record)
        except InvalidInput as mistake:
            raise DataError(f"{place}: {mistake}; restore it from {benchmark.upstream}") from None
        left_out += not read
        for number, case in enumerate(read, 1):
            truth = {code: true for code, true in case.truth.items() if code in shared}
            row = place.rpartition(" ")[2]
            part = f"{record[FILE]} " if "*" in benchmark.path else ""
            id = f"{part}row {row}" + (f", answer {number}" if len(read) > 1 else "")
            cases.append(replace(case, truth=truth, id=id))
    return tuple(cases), left_out


def _suite(name: str, benchmark: Benchmark, digest: str, cases: tuple[Case, ...], left_out: int, where: str) -> Suite:
    """The suite; DataError if it has no rows, or other ones than the published tables where those are sure."""
    if not cases:
        raise DataError(f"{where}: has no rows; restore it from {benchmark.upstream}")
    rows, unsafe = len(cases), sum(case.label == "unsafe" for case in cases)
    cautions = benchmark.cautions
    if benchmark.published is not None and (rows, unsafe) != benchmark.published:
        theirs = f"published are {benchmark.published[0]} and {benchmark.published[1]}"
        if benchmark.exact:
            raise DataError(
                f"{where}: {rows} rows of which {unsafe} unsafe, {theirs}; restore the file from {benchmark.upstream}"
            )
        cautions = f"This copy gives {rows} rows of which {unsafe} unsafe, {theirs}. {cautions}".strip()
    return Suite(name, benchmark.title, benchmark.upstream, benchmark.licence, digest, cases, cautions, left_out)


def _hub_records(name: str, benchmark: Benchmark, root: Path) -> Found:
    """The records of a copy under `root`/hub/NAME, else of the Hub; `benchmark.read` takes the place of the rules."""
    source = Source(
        name=name,
        title=benchmark.title,
        licence=benchmark.licence,
        role="auxiliary",
        kind="prompt",
        label=LabelRule(otherwise="unsafe"),
        upstream=benchmark.upstream,
        hub=benchmark.hub,
        prompt=Text(()),
    )
    if root != Path() and not root.is_dir():
        raise DataError(f"--root {root} is not a folder; give the folder that holds {local_copy(source, Path())}")
    for record in hub.records(source, root):
        yield record.place, record.fields


def _rows_digest(cases: Iterable[Case]) -> str:
    """Of what is judged and its labels: the same for a copy in whatever format."""
    lines = (
        json.dumps([case.label, case.subset, [[turn.role, turn.content] for turn in case.conversation.messages]])
        for case in cases
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _matches(path: Path) -> list[Path]:
    """The file, or those that a pattern finds, sorted; the pattern itself where it finds none."""
    return (sorted(path.parent.glob(path.name)) or [path]) if "*" in path.name else [path]


def _file_records(raws: Mapping[Path, bytes]) -> Found:
    for path, raw in raws.items():
        for number, record in enumerate(_records(raw, path), 1):
            yield f"{path} row {number}", {**record, FILE: path.stem}


def _shared_codes(policy: Policy) -> frozenset[str]:
    """The codes that mean in `policy` what they mean in the benchmarks' policy: those with the same category name."""
    names = {category.code: category.name for category in policies.load(CODES_OF).categories}
    return frozenset(category.code for category in policy.categories if names.get(category.code) == category.name)


def _read(path: Path, otherwise: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}; {otherwise}") from None


def _text(raw: bytes, path: Path) -> str:
    try:
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path}: is not a whole gzip file; restore it") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: byte {problem.start} is not UTF-8; is the file damaged?") from None


def _records(raw: bytes, path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a .csv file, or of JSON as lines or as one list; DataError if it is broken."""
    text = _text(raw, path)
    try:
        if path.suffix == ".csv":
            yield from csv.DictReader(io.StringIO(text, newline=""), strict=True)
        else:
            listed = text.lstrip().startswith("[")
            for record in json.loads(text) if listed else map(json.loads, filter(str.strip, text.split("\n"))):
                if not isinstance(record, dict):
                    raise ValueError("not an object")
                yield record
    except (csv.Error, ValueError) as problem:
        raise DataError(f"{path}: is damaged ({type(problem).__name__}); restore it") from None


def _own(path: Path, policy: Policy, columns: user_files.Mapping | None) -> Suite:
    examples = read_labelled(path, policy, columns)
    cases = tuple(
        Case(example.conversation, example.label, _truth(example, policy), id=f"labelled row {number}")
        for number, example in enumerate(examples, 1)
    )
    return Suite(path.name, path.name, "", "", file_digest(path), cases)


def _truth(example: Example, policy: Policy) -> dict[str, bool]:
    """A safe row violates nothing; an unsafe one without categories tells of none, nor does it of undecided ones."""
    codes = example.categories or frozenset()
    if example.label == "unsafe" and not codes:
        return {}
    return {code: code in codes for code in policy.codes if code in codes or code not in example.undecided}


def _split(name: str, folder: Path, split: str, policy: Policy) -> Suite:
    from guard.data.dataset.examples import load_examples

    examples = load_examples(folder, split)
    if not examples:
        raise DataError(f"{name}: has no rows; choose another split")
    codes = {code for example in examples for code in example.categories or ()}
    if unknown := sorted(codes - set(policy.codes), key=policies.natural):
        raise DataError(
            f"{name}: its rows name {', '.join(unknown)}, which policy {policy.id!r} has not; "
            "give the policy that it was built for with --policy"
        )
    cases = tuple(
        Case(example.conversation, example.label, _truth(example, policy), example.source, example.id)
        for example in examples
    )
    digest = hashlib.sha256("\n".join(example.id for example in examples).encode()).hexdigest()
    return Suite(name, f"{folder.name}, split {split}", "", "", digest, cases)


def data_folders(names: Collection[str]) -> Iterator[Path]:
    """The folders of those sets that are splits of built data."""
    for name in names:
        if name.startswith(_DATA):
            yield Path(name.removeprefix(_DATA).rpartition(":")[0])
