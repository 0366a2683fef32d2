"""Ledgers: folders that hold the finished parts of a long job, so that a killed one goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.errors import DataError
from guard.jobs.atomic import UNFINISHED, atomic

_SETTINGS = "settings.json"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Parts are numbered from 0. A part may have several files; it is finished once its record is there."""

    folder: Path

    def path(self, part: int, name: str) -> Path:
        """Where a file of the part lies; write it with `atomic`."""
        return self.folder / f"{part:06d}.{name}"

    def finished(self, part: int) -> bool:
        return self.path(part, "json").is_file()

    def record(self, part: int) -> dict[str, Any]:
        """What `commit` was given for a finished part."""
        record: dict[str, Any] = json.loads(self.path(part, "json").read_bytes())
        return record

    def commit(self, part: int, record: Mapping[str, Any]) -> None:
        """Finishes the part, all of whose files are written."""
        with atomic(self.path(part, "json")) as file:
            file.write(json.dumps(record).encode())

    def remove(self) -> None:
        """Removes the folder. Records go first and the settings last, so that what a kill leaves is still a ledger."""
        files = sorted(self.folder.iterdir(), key=lambda path: (path.name == _SETTINGS, path.suffix != ".json"))
        for path in files:
            path.unlink(missing_ok=True)
        self.folder.rmdir()


def open_ledger(folder: Path, settings: Mapping[str, Any], restart: bool = False) -> Ledger:
    """The ledger in `folder` of a job with these `settings` (JSON data); restart: without the parts that it holds.

    Raises DataError if the parts are of a job with other settings, or the folder is no ledger.
    """
    manifest = folder / _SETTINGS
    if folder.is_dir() and not manifest.is_file() and any(path.suffix != UNFINISHED for path in folder.iterdir()):
        raise DataError(f"{folder}: is in the way and holds no parts of a job; move it or choose another output")
    if restart and folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    if not manifest.is_file():
        with atomic(manifest) as file:
            file.write(json.dumps(settings, indent=2).encode())
    found = json.loads(manifest.read_bytes())
    if different := [name for name in settings if name not in found or found[name] != settings[name]]:
        raise DataError(
            f"{folder}: holds parts of a job that differs in: {', '.join(different)}; finish that job, remove the "
            "folder, or give --restart to throw its parts away"
        )
    return Ledger(folder)
