"""The full description of a user's data, from the short one in a configuration and the columns that are there."""

from __future__ import annotations

import dataclasses
import glob
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guard.data.ingest import source_rows
from guard.data.ingest.own_row import TABLES
from guard.data.ingest.source_rows import Broken
from guard.data.row import UNKNOWN_LANGUAGE, Row
from guard.data.sources import description, folders, formats
from guard.data.sources.description import File, Source
from guard.data.sources.formats import Format
from guard.data.sources.row_rules import CategoryRule, Group, LabelRule, LanguageRule, Text
from guard.data.sources.user_files import Columns, UserData, spelled
from guard.errors import ConfigError, DataError, nearest
from guard.policy import Policy
from guard.policy import crosswalk as crosswalks
from guard.policy.crosswalk import Crosswalk, fold

SHOWN = 10  # broken rows
HEAD = 200  # rows of each file that are looked at to learn its columns
_NAMES_SHOWN = 30  # columns
_NAME_SHOWN = 40  # characters; what is longer is more likely a text
_LOOSE: tuple[Format, ...] = ("jsonl", "json")  # formats in which a row may lack fields that others have
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_OTHER = {"safe": "unsafe", "unsafe": "safe"}
# 1 and 0 say which is safe only together with what they answer.
_UNSAFE_IF_SET = {"unsafe", "is_unsafe", "harmful", "is_harmful", "toxic", "is_toxic", "flagged", "is_flagged"}
_SAFE_IF_SET = {"safe", "is_safe", "harmless", "is_harmless", "benign", "is_benign"}


@dataclass(frozen=True, slots=True)
class Described:
    """A user's data as the pipeline reads it: what `guard.data.ingest.source_rows.each` takes."""

    source: Source
    root: Path
    crosswalk: Crosswalk | None


def describe(entry: UserData, folder: Path, policy: Policy, taxonomy: Path | None = None) -> Described:
    """The description of a user's data whose path starts at `folder`, after a look at the first rows of each file.

    ConfigError where a column, a split or a category that it names is not there; DataError where a file is missing,
    damaged or empty.
    """
    path = folder / entry.path
    if not path.exists():
        raise DataError(f"{path}: cannot be read: No such file or directory")
    if path.is_dir():
        root, (format, files) = path, folders.files(path, entry.split)
    elif entry.split is None:
        root, format, files = path.parent, entry.format or formats.format_of(path), [path]
    else:
        raise ConfigError(f"{path}: is one file and has no splits; leave `split` out")
    table = _crosswalk(entry, path, policy, taxonomy)
    columns = _Columns(entry, str(path), format, _columns_of(entry, path, format, files))
    source = _source(columns, format, [file.relative_to(root) for file in files], table)
    description.check_codes(source, table, policy)
    return Described(source, root, table)


def check(described: Described, policy: Policy) -> int:
    """The number of rows, after all are read; DataError shows the first broken ones and tells how many there are."""
    broken = BrokenRows(described.source.name)
    rows = source_rows.each(described.source, described.root, described.crosswalk, policy)
    count = sum(1 for _ in broken.sift(rows))
    broken.complain()
    return count


@dataclass(slots=True)
class BrokenRows:
    """The broken rows met so far: the first of them, and how many there are."""

    where: str
    shown: list[Broken] = field(default_factory=list)
    count: int = 0

    def sift(self, rows: Iterator[Row | Broken]) -> Iterator[Row]:
        """The whole ones of `rows`."""
        for row in rows:
            if isinstance(row, Row):
                yield row
            else:
                self.add(row)

    def add(self, broken: Broken) -> None:
        self.count += 1
        if self.count <= SHOWN:
            self.shown.append(broken)

    def told(self) -> str:
        more = [f"… and {self.count - SHOWN} more broken rows"] if self.count > SHOWN else []
        return "\n".join([f"{self.where}:", *(f"{row.place}: {row.problem}" for row in self.shown), *more])

    def complain(self) -> None:
        """DataError if there is one."""
        if self.count:
            raise DataError(self.told())


# -- columns ----------------------------------------------------------------------------------------------------------


def _columns_of(entry: UserData, path: Path, format: Format, files: Sequence[Path]) -> dict[Path, list[str]]:
    """The names of the columns of each file that has rows."""
    if entry.at is not None and format not in ("xlsx", "json"):
        raise ConfigError(f"{path}: `at` names a sheet of a workbook or a key of JSON; leave it out")
    found = {}
    broken = BrokenRows(str(path))
    for file in files:
        names: dict[str, None] = {}
        records = formats.each(file, file.name, format, entry.at, entry.encoding)
        for record in itertools.islice(records, HEAD):
            names.update(dict.fromkeys(record.fields))
            if record.problem:
                broken.add(Broken(record.place, record.problem))
        records.close()
        if names:
            found[file] = list(names)
    if not found:
        broken.complain()
        raise DataError(f"{path}: has no rows")
    if format == "json" and found[files[0]] == ["value"]:
        raise ConfigError(f"{path}: is one JSON object; name the key of it that holds the list of rows with `at`")
    return found


class _Columns:
    """Which column of a file holds what, by its user's mapping and the names that are there."""

    def __init__(self, entry: UserData, where: str, format: Format, by_file: dict[Path, list[str]]) -> None:
        self.entry, self.where, self.by_file = entry, where, by_file
        self.loose, self.is_table = format in _LOOSE, format in TABLES
        self.names = list(dict.fromkeys(name for names in by_file.values() for name in names))

    def find(self, role: str) -> str | None:
        """The column that holds `role`: the one that the mapping names, or the one of that name in any case."""
        given: str | None = getattr(self.entry.columns, role)
        if given is not None:
            return self.named(given)
        alike = [name for name in self.names if name.strip().lower() == role]
        return self.named(role if role in alike else alike[0]) if role in alike or len(alike) == 1 else None

    def optional(self, role: str) -> str | None:
        """Likewise; in a format whose rows may lack fields, the usual one even if no row was seen to have it."""
        return self.find(role) or (role if self.loose else None)

    def named(self, name: str) -> str:
        """The name itself; ConfigError if there is no such column."""
        for file, names in self.by_file.items():
            if name in names or name.partition(".")[0] in names:
                continue
            if self.loose and name in self.names:
                continue
            where = self.where if len(self.by_file) == 1 else str(file)
            near = nearest(name, names) if self._are_names(names) else None
            hint = f"; did you mean {_shown(near)}?" if near else "."
            raise ConfigError(f"{where}: has no column `{name}`{hint} {self.listed(names)}")
        return name

    def listed(self, names: Sequence[str] = ()) -> str:
        """What columns there are, as an error says it."""
        names = names or self.names
        if not self._are_names(names):
            return f"None of its {len(names)} columns has a name that is known; is the first row the header?"
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        return f"It has: {', '.join(map(_shown, names[:_NAMES_SHOWN]))}{more}"

    def _are_names(self, names: Sequence[str]) -> bool:
        """Whether the columns have names that may be shown: a table's are its first row, be it a user's text."""
        usual = {field.name: getattr(self.entry.columns, field.name) for field in dataclasses.fields(Columns)}
        given = [name for name in (*usual.values(), *self.entry.categories.flags) if name is not None]
        return (
            not self.is_table
            or any(name.strip().lower() in usual for name in names)
            or any(nearest(name, names) for name in given)
        )


def _shown(name: str) -> str:
    return f"`{name}`" if len(name) <= _NAME_SHOWN else f"({len(name)} characters)"


# -- rules ------------------------------------------------------------------------------------------------------------


def _source(columns: _Columns, format: Format, files: Sequence[Path], table: Crosswalk | None) -> Source:
    entry = columns.entry
    text, messages = _asked(columns)
    label, pair = columns.find("label"), (columns.find("chosen"), columns.find("rejected"))
    paired = all(pair) and (entry.columns.chosen is not None or label is None)
    response, rejected = pair if paired else (columns.optional("response"), None)
    group = columns.optional("group")
    return Source(
        name=entry.name,
        title=entry.name,
        licence=entry.licence,
        role=entry.role,
        kind="pair" if paired else "either" if response or messages else "prompt",
        files=tuple(File(glob.escape(file.as_posix())) for file in files),
        format=format,
        at=entry.at,
        encoding=entry.encoding,
        prompt=None if text is None else Text((text,)),
        messages=messages,
        response=None if response is None else Text((response,)),
        rejected=None if rejected is None else Text((rejected,)),
        label=LabelRule(otherwise="unlabelled") if paired else _label(columns, label),
        categories=None if paired else _categories(columns, table),
        language=_language(columns),
        group=None if group is None else Group((group,)),
        id=columns.optional("id"),
        own=True,
    )


def _language(columns: _Columns) -> str | LanguageRule:
    entry = columns.entry
    if entry.language != UNKNOWN_LANGUAGE and entry.columns.language is None:
        return entry.language
    name = columns.optional("language")
    return entry.language if name is None else LanguageRule(name, {}, otherwise=entry.language)


def _asked(columns: _Columns) -> tuple[str | None, str | None]:
    """The columns of what a user sent, and of the messages."""
    given = columns.entry.columns
    if given.messages is not None:
        return None, columns.named(given.messages)
    if named := given.text or given.prompt:
        return columns.named(named), None
    text, prompt, messages = (columns.find(role) for role in ("text", "prompt", "messages"))
    if text and (prompt or messages):
        raise ConfigError(
            f"{columns.where}: has columns `{text}` and `{prompt or messages}`; say with `columns` which is to be read"
        )
    if not (text or prompt or messages or columns.find("response")):
        raise ConfigError(
            f"{columns.where}: has no column `prompt`, `text` or `messages`; name one in `columns`. {columns.listed()}"
        )
    if text is None and columns.loose:  # rows of both kinds may follow each other
        return prompt or "prompt", messages or "messages"
    return text or prompt or (None if messages else "prompt"), messages


def _label(columns: _Columns, name: str | None) -> LabelRule:
    labels = columns.entry.labels
    if name is None:
        if labels.otherwise is not None:
            return LabelRule(otherwise=labels.otherwise)
        if columns.entry.categories.flags:
            return LabelRule(flags=True)
        raise ConfigError(
            f"{columns.where}: has no column `label`; name it in `columns`, or what all rows are with "
            f"`labels: {{otherwise: unsafe}}`. {columns.listed()}"
        )
    words = {"safe": spelled(labels.safe), "unsafe": spelled(labels.unsafe), "unlabelled": spelled(labels.unlabelled)}
    taken = {word for listed in words.values() for word in listed}
    set_ = "unsafe" if fold(name) in _UNSAFE_IF_SET else "safe" if fold(name) in _SAFE_IF_SET else None
    usual = {} if labels.safe or labels.unsafe or set_ is None else {set_: _YES, _OTHER[set_]: _NO}
    for label in words:
        if not getattr(labels, label):
            words[label] = tuple(word for word in (label, *spelled(usual.get(label, ()))) if word not in taken)
    safe, unsafe, unlabelled = words.values()
    return LabelRule((name,), safe, unsafe, unlabelled, otherwise=labels.otherwise)


def _categories(columns: _Columns, table: Crosswalk | None) -> CategoryRule | None:
    given = columns.entry.categories
    named = None if table is None else table.name
    if given.always:
        return CategoryRule(always=given.always)
    if given.flags:
        for column, native in given.flags.items():
            columns.named(column)
            if table is not None and table.entry(native) is None:
                raise ConfigError(
                    f"{columns.where}: `categories.flags.{column}`: {native!r} is not a label of crosswalk {table.name}"
                )
        return CategoryRule(crosswalk=named, flags=given.flags)
    name = columns.optional("categories")
    if name is None:
        return None
    labels = () if table is None else tuple(table.entries)
    separator = given.separator or (None if any("," in label for label in labels) else ",")
    if separator is not None and any(separator in label for label in labels):
        raise ConfigError(
            f"{columns.where}: `categories.separator`: {separator!r} is also inside labels of crosswalk {named}; part "
            "them by another one"
        )
    return CategoryRule(crosswalk=named, fields=(name,), separator=separator, undecided=columns.optional("undecided"))


def _crosswalk(entry: UserData, path: Path, policy: Policy, taxonomy: Path | None) -> Crosswalk | None:
    given = entry.categories.crosswalk
    if given is None:
        return None
    if isinstance(given, str):
        return crosswalks.load(given, taxonomy)
    codes = {label: (code,) if isinstance(code, str) else code for label, code in given.items()}
    try:
        return Crosswalk(
            name=f"of {entry.name}",
            policy=policy.id,
            title=entry.name,
            mapped={label: listed for label, listed in codes.items() if listed},
            unmapped={label: "listed without a code" for label, listed in codes.items() if not listed},
        )
    except ValueError as mistake:
        raise ConfigError(f"{path}: `categories.crosswalk`: {mistake}") from None
