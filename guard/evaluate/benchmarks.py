"""Sets to evaluate on: public benchmarks from their files or the Hub, a user's own rows, and splits of built data.

A named benchmark is scored by the convention of its authors. If its published row counts are certain, a file with other
counts is refused, because its numbers would not be comparable; otherwise the difference is noted in the cautions.
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
from guard.data.sources.description import Source, local_copy
from guard.data.sources.row_rules import LabelRule, Text
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
    """The set `name`: a benchmark under `root`, a user's file (read by `columns`), or `data:FOLDER:SPLIT`, of which
    `SPLIT/en,de` are the rows of these languages.

    Raises InvalidInput for any other name, DataError for a missing or broken file.
    """
    if name in BENCHMARKS:
        return _benchmark(name, root, policy)
    if name.startswith(_DATA):
        folder, _, part = name.removeprefix(_DATA).rpartition(":")
        if not folder or not part:
            raise InvalidInput(f"{name}: a split of built data is written data:FOLDER:SPLIT, like data:out/en:dev")
        split, _, languages = part.partition("/")
        return _split(name, Path(folder), split, languages, policy)
    if formats.is_known(Path(name)):
        return _user_file(Path(name), policy, columns)
    raise InvalidInput(
        f"no benchmark {name!r}; give {', '.join(BENCHMARKS)} (see --root), a file of your own "
        f"({', '.join(formats.SUFFIXES)}), or data:FOLDER:SPLIT"
    )


Records = Iterable[tuple[str, Mapping[str, Any]]]  # (location, columns) of each record


def _benchmark(name: str, root: Path | None, policy: Policy) -> Suite:
    benchmark = BENCHMARKS[name]
    if benchmark.hub is not None:
        cases, left_out = _cases(benchmark, _hub_records(name, benchmark, root or Path()), policy)
        return _suite(name, benchmark, _rows_digest(cases), cases, left_out, f"{benchmark.hub.dataset}")
    if root is None:
        raise InvalidInput(f"{name}: give --root, the folder that holds {benchmark.path} (from {benchmark.upstream})")
    path = root / benchmark.path
    contents = {match: _read(match, f"get it from {benchmark.upstream}") for match in _matches(path)}
    cases, left_out = _cases(benchmark, _file_records(contents), policy)
    digests = [hashlib.sha256(content).hexdigest() for content in contents.values()]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return _suite(name, benchmark, digest, cases, left_out, str(path))


def _cases(benchmark: Benchmark, records: Records, policy: Policy) -> tuple[tuple[Case, ...], int]:
    """The cases, with truth limited to codes of this policy, and the number of records without a case."""
    shared = _shared_codes(policy)
    cases: list[Case] = []
    left_out = 0
    for location, record in records:
        try:
            of_record = benchmark.read(record)
        except InvalidInput as mistake:
            raise DataError(f"{location}: {mistake}; restore it from {benchmark.upstream}") from None
        left_out += not of_record
        for number, case in enumerate(of_record, 1):
            truth = {code: true for code, true in case.truth.items() if code in shared}
            row = location.rpartition(" ")[2]
            file = f"{record[FILE]} " if "*" in benchmark.path else ""
            id = f"{file}row {row}" + (f", answer {number}" if len(of_record) > 1 else "")
            cases.append(replace(case, truth=truth, id=id))
    return tuple(cases), left_out


def _suite(name: str, benchmark: Benchmark, digest: str, cases: tuple[Case, ...], left_out: int, where: str) -> Suite:
    """The suite; DataError if it has no rows, or other row counts than published ones that are certain."""
    if not cases:
        raise DataError(f"{where}: has no rows; restore it from {benchmark.upstream}")
    rows, unsafe = len(cases), sum(case.label == "unsafe" for case in cases)
    cautions = benchmark.cautions
    if benchmark.published is not None and (rows, unsafe) != benchmark.published:
        published = f"published are {benchmark.published[0]} and {benchmark.published[1]}"
        if benchmark.exact:
            raise DataError(
                f"{where}: {rows} rows of which {unsafe} unsafe, {published}; restore the file from "
                f"{benchmark.upstream}"
            )
        cautions = f"This copy gives {rows} rows of which {unsafe} unsafe, {published}. {cautions}".strip()
    return Suite(name, benchmark.title, benchmark.upstream, benchmark.licence, digest, cases, cautions, left_out)


def _hub_records(name: str, benchmark: Benchmark, root: Path) -> Records:
    """The records of a copy under `root`/hub/NAME, else of the Hub; `benchmark.read` replaces the label rules."""
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
    """A digest of the judged conversations and labels: equal for copies in any format."""
    lines = (
        json.dumps([case.label, case.subset, [[turn.role, turn.content] for turn in case.conversation.messages]])
        for case in cases
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _matches(path: Path) -> list[Path]:
    """The file, or the sorted matches of a pattern; the pattern itself if nothing matches."""
    return (sorted(path.parent.glob(path.name)) or [path]) if "*" in path.name else [path]


def _file_records(contents: Mapping[Path, bytes]) -> Records:
    for path, content in contents.items():
        for number, record in enumerate(_records(content, path), 1):
            yield f"{path} row {number}", {**record, FILE: path.stem}


def _shared_codes(policy: Policy) -> frozenset[str]:
    """The codes with the same meaning in `policy` and in the benchmarks' policy: those with equal category names."""
    names = {category.code: category.name for category in policies.load(CODES_OF).categories}
    return frozenset(category.code for category in policy.categories if names.get(category.code) == category.name)


def _read(path: Path, advice: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; {advice}") from None


def _text(content: bytes, path: Path) -> str:
    try:
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path}: is not a whole gzip file; restore it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; is the file damaged?") from None


def _records(content: bytes, path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a CSV file, of JSON lines, or of one JSON list; DataError if it is broken."""
    text = _text(content, path)
    try:
        if path.suffix == ".csv":
            yield from csv.DictReader(io.StringIO(text, newline=""), strict=True)
        else:
            is_list = text.lstrip().startswith("[")
            for record in json.loads(text) if is_list else map(json.loads, filter(str.strip, text.split("\n"))):
                if not isinstance(record, dict):
                    raise ValueError("not an object")
                yield record
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}: is damaged ({type(error).__name__}); restore it") from None


def _user_file(path: Path, policy: Policy, columns: user_files.Mapping | None) -> Suite:
    examples = read_labelled(path, policy, columns)
    cases = tuple(
        Case(example.conversation, example.label, _truth(example, policy), id=f"labelled row {number}")
        for number, example in enumerate(examples, 1)
    )
    return Suite(path.name, path.name, "", "", file_digest(path), cases)


def _truth(example: Example, policy: Policy) -> dict[str, bool]:
    """A safe row violates nothing; nothing is known of an unsafe row without categories, or of undecided ones."""
    codes = example.categories or frozenset()
    if example.label == "unsafe" and not codes:
        return {}
    return {code: code in codes for code in policy.codes if code in codes or code not in example.undecided}


def _split(name: str, folder: Path, split: str, languages: str, policy: Policy) -> Suite:
    from guard.data.dataset.examples import load_examples, of_languages

    examples = of_languages(load_examples(folder, split), list(filter(None, languages.split(","))), name)
    if not examples:
        raise DataError(f"{name}: has no rows; choose another split")
    codes = {code for example in examples for code in example.categories or ()}
    if unknown := sorted(codes - set(policy.codes), key=policies.natural):
        raise DataError(
            f"{name}: its rows name {', '.join(unknown)}, which policy {policy.id!r} does not have; "
            "give the policy that it was built for with --policy"
        )
    cases = tuple(
        Case(example.conversation, example.label, _truth(example, policy), example.source, example.id)
        for example in examples
    )
    digest = hashlib.sha256("\n".join(example.id for example in examples).encode()).hexdigest()
    title = f"{folder.name}, split {split}" + f" ({languages})" * bool(languages)
    return Suite(name, title, "", "", digest, cases)


def data_folders(names: Collection[str]) -> Iterator[Path]:
    """The folders of the named sets that are splits of built data."""
    for name in names:
        if name.startswith(_DATA):
            yield Path(name.removeprefix(_DATA).rpartition(":")[0])
