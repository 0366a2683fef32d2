"""A training run's record: `run.json`, with everything that produced it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from guard.errors import GuardError
from guard.jobs.atomic import atomic
from guard.train.common.identity import contents

PACKAGES = (
    "guard-service",
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "onnx",
    "onnxruntime",
    "tokenizers",
    "numpy",
)


def write_run(
    folder: Path,
    *,
    kind: str,
    config: Any,
    policy: str,
    data_digest: str | None,
    seed: int,
    metrics: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes `run.json` into `folder`: resolved config, policy and data digests, versions, commit, metrics, memory."""
    record = {
        "kind": kind,
        "config": dataclasses.asdict(config),
        "policy": policy,
        "data": data_digest,
        "seed": seed,
        "metrics": dict(metrics),
        "packages": packages(),
        "python": platform.python_version(),
        "machine": {"cpu": platform.machine(), "system": platform.system()},
        "commit": commit(),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **(extra or {}),
    }
    with atomic(folder / "run.json") as file:  # its presence says that the run is finished
        file.write((json.dumps(record, indent=2, sort_keys=True, default=str) + "\n").encode())


def data_digest(data: Path) -> str | None:
    """The digest of a run's data: of a built folder's manifest, or of all data files where it has none; None where
    there is no data, which its loader reports."""
    manifest = data / "manifest.json"
    return contents(manifest if manifest.is_file() else data) if data.exists() else None


def run_recipe(main: Callable[[str, list[str]], None]) -> None:
    """Calls a recipe's `main` with its command line: a config and key=value overrides.

    Errors that guard raises on purpose become one line on stderr and exit code 2, as in `guard`.
    """
    if len(sys.argv) < 2:
        sys.exit(f"usage: {Path(sys.argv[0]).name} CONFIG.yaml [key=value ...]")
    try:
        main(sys.argv[1], sys.argv[2:])
    except GuardError as problem:
        sys.stderr.write(f"guard: {problem}\n")
        sys.exit(2)


def packages() -> dict[str, str]:
    """Versions of the installed packages that affect results."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def commit() -> str | None:
    """The git commit of the working directory with `+` if it has changes; None outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if dirty.strip() else "")
