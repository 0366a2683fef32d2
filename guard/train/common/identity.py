"""What a run is made of: its configuration, and the contents of all that the configuration names.

A path tells nothing: another file may lie there by now. So a run is told by digests, which are written down before its
first step (`started.json`), compared when the same command is given again, and once more by the export.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from guard import policy
from guard.digest import file_digest
from guard.errors import BundleError, ConfigError
from guard.policy import Policy

STARTED = "started.json"
MODEL_FILES = ("*.json", "*.safetensors", "*.bin")
DATA_FILES = ("*", "*/*.arrow", "*/state.json")  # built, or saved by `datasets`; not a run that lies among them
_NAMES = ("mini", "minilm")  # bases that are no folders
_SHOWN = 80
Config = TypeVar("Config", bound=Any)


def resolved(config: Config) -> Config:
    """The configuration with absolute paths, so that what a run says of itself holds in every working directory."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{key: _resolved(key, value) for key, value in values.items()})


def _resolved(key: str, value: Any) -> Any:
    match key:
        case "data" | "out" | "columns" if value is not None:
            return os.path.abspath(value)
        case "base" | "teacher" if value not in _NAMES and Path(value).exists():  # else a name on the hub
            return os.path.abspath(value)
        case "policy":
            return _policy(value)
        case "other_policies":
            return tuple(map(_policy, value))
        case "replay":
            return resolved(value)
    return value


def _policy(name: str) -> str:
    return name if policy.is_name(name) else os.path.abspath(name)


def contents(path: Path, patterns: Collection[str] = DATA_FILES) -> str:
    """sha256 (hex) of a file, or of the names and digests of a folder's files that fit one of the patterns."""
    if not path.is_dir():
        return file_digest(path)
    files = {found for pattern in patterns for found in path.glob(pattern) if found.is_file()}
    told = {found.relative_to(path).as_posix(): file_digest(found) for found in files}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def digests(config: Any, rules: Policy, base: Path) -> dict[str, Any]:
    """By what they are, the digests of a run's data, policy, base and so on; to be taken before any of it is read.

    DataError or PolicyError of what reads them later, where something is not there.
    """
    replay, data = getattr(config, "replay", None), Path(config.data)
    replayed = None if replay is None or replay.data is None or not replay.share else Path(replay.data)
    found = {"data": data, "columns": None if config.columns is None else Path(config.columns), "replay": replayed}
    return {
        **{name: contents(path) for name, path in found.items() if path is not None and path.exists()},
        "base": contents(base, MODEL_FILES),
        "policy": rules.digest,
        "other_policies": [policy.load(name).digest for name in getattr(config, "other_policies", ())],
    }


def made_of(config: Any, free: Collection[str], digests: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration less the keys that may change when a run goes on, and the digests; as JSON reads it back."""
    kept = {key: value for key, value in dataclasses.asdict(config).items() if key not in free}
    plain: dict[str, Any] = json.loads(json.dumps({**kept, "digests": digests}, default=sorted))
    return plain


def claim(out: Path, made_of: Mapping[str, Any]) -> None:
    """Makes the folder of a run and says there what the run is made of, or compares it with what is said.

    ConfigError if the folder holds a run made of something else, or something that is no run.
    """
    now = json.loads(json.dumps(made_of, default=sorted))  # as it will be read back; sets become lists
    started, draft = out / STARTED, out / f".{STARTED}"
    if started.exists():
        differing = _differences(json.loads(started.read_text(encoding="utf-8")), now)
        if differing:
            raise ConfigError(
                f"{out}: holds a run that differs in {'; '.join(differing)}. Give another folder with --out, or remove "
                "this one"
            )
    elif out.is_dir() and any(entry.name != draft.name for entry in out.iterdir()):
        raise ConfigError(f"{out}: is not empty and no run of this recipe; give another folder with --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(now, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        draft.replace(started)


def check_unchanged(record: Mapping[str, Any], name: str, now: str, where: str, instead: str) -> None:
    """BundleError if what a run's record names (`data`, `base`, `policy`) has other contents now."""
    before = record.get("digests", {}).get(name, now)
    if before != now:
        raise BundleError(
            f"{where}: is not what the run was trained with: the digest of the {name} was {before[:12]}, is "
            f"{now[:12]}; {instead}"
        )


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    """The keys at which two plain documents differ, each with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [
            found
            for key in keys
            for found in _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
        ]
    shown = (json.dumps(value)[:_SHOWN] for value in (before, now))
    return [] if before == now else ["{} (was {}, is {})".format(path, *shown)]
