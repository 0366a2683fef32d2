"""The identity of a run: its configuration, and the contents of everything that the configuration names.

A path is not enough, since its file may change. So a run is identified by digests, which are written before its first
step (`started.json`), compared when the same command is run again, and once more by the export.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from guard import policy
from guard.digest import file_digest
from guard.errors import BundleError, ConfigError
from guard.policy import Policy

STARTED = "started.json"
LOCK = ".lock"
MODEL_FILES = ("*.json", "*.safetensors", "*.bin")
DATA_FILES = ("*", "*/*.arrow", "*/state.json")  # built, or saved by `datasets`; not a run's folder among them
_NAMES = ("mini", "minilm")  # bases that are not folders
_SHOWN = 80
_held: dict[Path, FileLock] = {}  # of the runs of this process, until it ends
Config = TypeVar("Config", bound=Any)


def resolved(config: Config) -> Config:
    """The configuration with absolute paths, so that a run's record is valid in every working directory."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{key: _resolved(key, value) for key, value in values.items()})


def _resolved(key: str, value: Any) -> Any:
    match key:
        case "data" | "out" | "columns" | "reward_model" if value is not None:
            return os.path.abspath(value)
        case "base" | "teacher" if value not in _NAMES and Path(value).exists():  # else a name on the hub
            return os.path.abspath(value)
        case "policy" if value is not None:
            return _policy(value)
        case "other_policies":
            return tuple(map(_policy, value))
        case "replay":
            return resolved(value)
    return value


def _policy(name: str) -> str:
    return name if policy.is_name(name) else os.path.abspath(name)


def contents(path: Path, patterns: Collection[str] = DATA_FILES) -> str:
    """sha256 (hex) of a file, or of the names and digests of a folder's files that match one of the patterns."""
    if not path.is_dir():
        return file_digest(path)
    files = {file for pattern in patterns for file in path.glob(pattern) if file.is_file()}
    by_name = {file.relative_to(path).as_posix(): file_digest(file) for file in files}
    return hashlib.sha256(json.dumps(by_name, sort_keys=True).encode()).hexdigest()


def base_digest(folder: Path) -> str:
    """sha256 (hex) of a model's files, which are read once in a process, for as long as they stay as they are."""
    files = sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern) if file.is_file()})
    return _base_digest(folder, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@functools.lru_cache(maxsize=32)
def _base_digest(folder: Path, _: tuple[object, ...]) -> str:
    return contents(folder, MODEL_FILES)


def digests(config: Any, rules: Policy, base: Path) -> dict[str, Any]:
    """The digests of a run's data, policy, base and so on, by role; compute them before any of it is loaded.

    Missing data and columns are left out: whatever loads them later reports the error.
    """
    replay, data = getattr(config, "replay", None), Path(config.data)
    replayed = None if replay is None or replay.data is None or not replay.share else Path(replay.data)
    inputs = {"data": data, "columns": None if config.columns is None else Path(config.columns), "replay": replayed}
    return {
        **{name: contents(path) for name, path in inputs.items() if path is not None and path.exists()},
        "base": base_digest(base),
        "policy": rules.digest,
        "other_policies": [policy.load(name).digest for name in getattr(config, "other_policies", ())],
    }


def made_of(config: Any, free: Collection[str], digests: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without the keys that a resumed run may change, and the digests; as after a JSON round trip."""
    kept = {key: value for key, value in dataclasses.asdict(config).items() if key not in free}
    plain: dict[str, Any] = json.loads(json.dumps({**kept, "digests": digests}, default=sorted))
    return plain


def claim(out: Path, made_of: Mapping[str, Any]) -> None:
    """Creates the folder of a run and records its identity there, or compares the identity with the recorded one.

    The folder is this process's own until it ends. ConfigError if it holds a run with another identity, or something
    else, or if another process trains there.
    """
    now = json.loads(json.dumps(made_of, default=sorted))  # as after a round trip; sets become lists
    started, draft = out / STARTED, out / f".{STARTED}"
    if started.exists():
        differing = _differences(json.loads(started.read_text(encoding="utf-8")), now)
        if differing:
            raise ConfigError(
                f"{out}: holds a run that differs in {'; '.join(differing)}. Choose another folder with --out, or "
                "remove this one"
            )
    elif out.is_dir() and any(entry.name not in (draft.name, LOCK) for entry in out.iterdir()):
        raise ConfigError(f"{out}: is not empty and not a run of this recipe; choose another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    _lock(out)
    if not started.exists():
        draft.write_text(json.dumps(now, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        draft.replace(started)


def _lock(out: Path) -> None:
    if int(os.environ.get("LOCAL_RANK", 0)) or out.resolve() in _held:  # one process of several holds it for all
        return
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ConfigError(
            f"{out}: another process trains there; wait for it, stop it, or choose another folder with --out"
        ) from None
    _held[out.resolve()] = lock


def check_unchanged(record: Mapping[str, Any], name: str, now: str, where: str, instead: str) -> None:
    """BundleError if the contents of an input of the run (`data`, `base`, `policy`) have changed."""
    before = record.get("digests", {}).get(name, now)
    if before != now:
        raise BundleError(
            f"{where}: changed since training: the digest of the {name} was {before[:12]}, is now {now[:12]}; {instead}"
        )


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    """The keys at which two plain documents differ, each with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [
            difference
            for key in keys
            for difference in _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
        ]
    shown = (json.dumps(value)[:_SHOWN] for value in (before, now))
    return [] if before == now else ["{} (was {}, is {})".format(path, *shown)]
