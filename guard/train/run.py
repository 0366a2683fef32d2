"""A training run's record: `run.json` tells everything that made it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import resource
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guard.bundle import file_digest

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
    (folder / "run.json").write_text(json.dumps(record, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")


def data_digest(data: Path) -> str:
    """What names the data of a run: the digest of a built folder's manifest, or of a single file."""
    return file_digest(data / "manifest.json" if data.is_dir() else data)


def packages() -> dict[str, str]:
    """Versions of the installed packages that decide a result."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The git commit of the working directory with `+` if it has changes; None outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if dirty.strip() else "")
