"""Ledgers: folders with the finished parts of a long job, so that a killed job resumes."""

from __future__ import annotations

import glob
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.digest import file_digest
from guard.errors import DataError
from guard.jobs.atomic import UNFINISHED, atomic
from guard.jobs.lock import locked

_SETTINGS = "settings.json"
_ABSENT = "(absent)"
_DIGEST = 64  # characters; the first few tell two apart
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Parts are numbered from 0. A part may have several files; it is finished once its record exists, which has their
    checksums.
    """

    folder: Path

    def path(self, part: int, name: str) -> Path:
        """The path of a file of the part; write it with `atomic`."""
        return self.folder / f"{part:06d}.{name}"

    def finished(self, part: int) -> bool:
        """Whether the part was committed and its files are unchanged since. If not, it must be redone."""
        entry = self._entry(part)
        if entry is None:
            return False
        for name, sha256 in entry["files"].items():
            path = self.path(part, name)
            if not path.is_file() or file_digest(path) != sha256:
                _log.warning("%s: changed since it was committed; the part is redone", path)
                return False
        return True

    def record(self, part: int) -> dict[str, Any]:
        """The record that was committed for a part. DataError if it is not finished."""
        if (entry := self._entry(part)) is None:
            raise DataError(f"{self.path(part, 'json')}: damaged; run the same command again to redo that part")
        record: dict[str, Any] = entry["record"]
        return record

    def commit(self, part: int, record: Mapping[str, Any], names: Sequence[str] | None = None) -> None:
        """Finishes the part, all of whose files are written. names: of these files; None: they are looked for, which
        takes the longer the more parts there are.
        """
        if names is not None:
            paths = [self.path(part, name) for name in names]
        else:
            paths = [path for path in self.folder.glob(f"{part:06d}.*") if path.suffix not in (".json", UNFINISHED)]
        files = {path.name.partition(".")[2]: file_digest(path) for path in sorted(paths)}
        with atomic(self.path(part, "json")) as file:
            file.write(json.dumps({"files": files, "record": record}).encode())

    def remove(self) -> None:
        """Removes the folder: records first and the settings last, so that a kill in between leaves a valid ledger."""
        files = sorted(self.folder.iterdir(), key=lambda path: (path.name == _SETTINGS, path.suffix != ".json"))
        for path in files:
            path.unlink(missing_ok=True)
        self.folder.rmdir()

    def _entry(self, part: int) -> dict[str, Any] | None:
        """The record of a part with the checksums of its files; None where there is none, or a damaged one."""
        try:
            entry = json.loads(self.path(part, "json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return entry if isinstance(entry, dict) and entry.keys() == {"files", "record"} else None


@contextmanager
def open_ledger(
    folder: Path,
    settings: Mapping[str, Any],
    restart: bool = False,
    *,
    outputs: Sequence[Path] = (),
    discard: bool = False,
) -> Iterator[Ledger]:
    """The ledger in `folder` of a job with these `settings` (JSON data), locked against other processes.

    restart: discard its parts. discard: discard them if they belong to a job with other settings. outputs: what the job
    will write; where they exist and the ledger does not, a job has finished, and only `restart` replaces them.
    Raises DataError if an output would be overwritten, the parts belong to a job with other settings, the folder is
    not a ledger, or another process has it open.
    """
    with locked(folder):
        manifest = folder / _SETTINGS
        if folder.is_dir() and not manifest.is_file() and any(path.suffix != UNFINISHED for path in folder.iterdir()):
            raise DataError(f"{folder}: exists and is not a folder of job parts; move it or choose another output")
        if not (restart or manifest.is_file()) and (present := [path for path in outputs if path.exists()]):
            raise DataError(f"{present[0]}: already exists; give --restart to replace it, or choose another output")
        different = _differing(manifest, settings)
        if different and not (restart or discard):
            raise DataError(
                f"{folder}: has parts of a job that differs in: {', '.join(different)}; finish that job, remove the "
                "folder, or give --restart to discard its parts"
            )
        if (restart or different) and folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700, exist_ok=True)  # records quote rows
        if not manifest.is_file():
            with atomic(manifest) as file:
                file.write(json.dumps(settings, indent=2).encode())
        for path in (*outputs, manifest):  # what a killed run had not finished to write: nobody else writes it now
            for unfinished in path.parent.glob(f"{glob.escape(path.name)}.*{UNFINISHED}"):
                unfinished.unlink(missing_ok=True)
        yield Ledger(folder)


def _differing(manifest: Path, settings: Mapping[str, Any]) -> list[str]:
    """How the settings differ from those of the ledger; empty where there is no ledger yet."""
    try:
        stored = json.loads(manifest.read_bytes())
    except FileNotFoundError:
        return []
    except ValueError:  # damaged
        return list(settings)
    return _changes(stored, json.loads(json.dumps(settings)), "")


def _changes(stored: Any, given: Any, name: str) -> list[str]:
    """Each changed value by its dotted name, with what it was and is now."""
    if isinstance(stored, dict) and isinstance(given, dict):
        names = [key for key in given if key not in stored or stored[key] != given[key]]
        names += [key for key in stored if key not in given and name]  # a newer version may know more settings
        return [
            change
            for key in names
            for change in _changes(stored.get(key, _ABSENT), given.get(key, _ABSENT), f"{name}.{key}" if name else key)
        ]
    return [f"{name} (was {_shown(stored)}, now {_shown(given)})"]


def _shown(value: Any) -> str:
    if isinstance(value, str) and len(value) == _DIGEST:
        return f"{value[:12]}…"
    if isinstance(value, dict):
        return "present"
    return "absent" if value == _ABSENT else json.dumps(value)
