"""The labels of an audit: a CSV form to fill in, by hand or by the page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guard.errors import DataError
from guard.filter.audit.sample import Sampled
from guard.jobs.atomic import atomic

COLUMNS = ("id", "label", "categories", "text")
_FORMULA = re.compile(r"^[=+\-@\t\r]")  # what spreadsheets would run


@dataclass(frozen=True, slots=True)
class Label:
    """What a person says of a row. categories: None where nothing is said."""

    label: Literal["safe", "unsafe"]
    categories: tuple[str, ...] | None


def write_form(path: Path, sample: Sequence[Sampled]) -> None:
    """A row for each of the sample, with an empty label."""
    text = io.StringIO()
    form = csv.writer(text)
    form.writerow(COLUMNS)
    for each in sample:
        shown = "\n\n".join(f"[{role}] {content}" for role, content in each.messages)
        form.writerow((each.id, "", "", f"'{shown}" if _FORMULA.match(shown) else shown))
    with atomic(path, private=True) as file:
        file.write(text.getvalue().encode("utf-8-sig"))


def read_labels(path: Path, ids: Sequence[int]) -> dict[int, Label]:
    """The labels by row; rows that were left empty have none.

    DataError, with the line, for anything but `safe` and `unsafe`, an unknown id, or one that comes twice.
    """
    labels: dict[int, Label] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            form = csv.DictReader(file)
            if not {"id", "label"} <= set(form.fieldnames or ()):
                raise DataError(f"{path}: has no columns id and label; fill in the form that `guard audit draw` wrote")
            for row in form:
                _read_row(row, f"{path} line {form.line_num}", set(ids), labels)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{path}: not a CSV file in UTF-8; save it as such") from None
    return labels


def _read_row(row: Mapping[str, str | None], where: str, ids: set[int], labels: dict[int, Label]) -> None:
    said = (row["label"] or "").strip().lower()
    if not said:
        return
    if said not in ("safe", "unsafe"):
        raise DataError(f"{where}: a label must be safe, unsafe, or empty")
    number = (row["id"] or "").strip()
    if not number.isdecimal() or int(number) not in ids:
        raise DataError(f"{where}: no row of the sample has this id")
    if int(number) in labels:
        raise DataError(f"{where}: the row has a label already; remove one of them")
    codes = tuple(filter(None, re.split(r"[\s,;]+", row.get("categories") or "")))
    labels[int(number)] = Label("unsafe" if said == "unsafe" else "safe", codes or None)
