"""The folder of an audit: what was drawn, and the form and the page for the labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from guard.errors import DataError
from guard.filter.audit.labels import write_form
from guard.filter.audit.sample import Sampled, Stratum
from guard.jobs.atomic import atomic


def write(folder: Path, sample: Sequence[Sampled], strata: Sequence[Stratum], page: str) -> None:
    """The folder of an audit: what was drawn, a table and a page for the labels. Only the owner may read it.

    The table and the page do not show the scores, which would sway whoever labels. DataError if the folder exists.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise DataError(f"{folder}: already exists; choose another folder, so that no labels are lost") from None
    with atomic(folder / "sample.json", private=True) as file:
        content = {"strata": [asdict(each) for each in strata], "rows": [asdict(each) for each in sample]}
        file.write(json.dumps(content, indent=1).encode())
    write_form(folder / "labels.csv", sample)
    with atomic(folder / "page.html", private=True) as file:
        file.write(page.encode())


def read(folder: Path) -> tuple[list[Sampled], list[Stratum]]:
    """What `write` wrote. DataError where it is missing or damaged."""
    path = folder / "sample.json"
    try:
        content = json.loads(path.read_bytes())
        return [Sampled(**row) for row in content["rows"]], [Stratum(**each) for each in content["strata"]]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; draw the sample with `guard audit draw`") from None
    except (ValueError, TypeError, KeyError):
        raise DataError(f"{path}: damaged; draw the sample again") from None
