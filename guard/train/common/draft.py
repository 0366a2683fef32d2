"""A draft bundle: its manifest's fields from the run, and a preliminary seal for checks that need an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guard import bundle, policy
from guard.bundle import Bundle
from guard.calibration import Calibration
from guard.train.common.identity import check_unchanged
from guard.train.common.run_folder import packages


def common_fields(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The fields of every bundle's manifest that come from its run."""
    rules = policy.load(folder / "policy.yaml")
    check_unchanged(record, "policy", rules.digest, "policy.yaml of the run", "restore it, or train again")
    return {
        "name": folder.name,
        "policy": rules.digest,
        "max_tokens": record["config"]["max_tokens"],
        "overlap": record["config"]["overlap"],
        "data": record["data"],
        "policies": list(record["config"].get("other_policies") or ()),
        "languages": list(record["config"].get("languages") or ()),
        "packages": packages(),
    }


def sealed(folder: Path, fields: dict[str, Any]) -> Bundle:
    """The draft as a bundle, for checks that need an engine before the final seal."""
    return Bundle(folder, bundle.seal(folder, **fields), policy.load(folder / "policy.yaml"), Calibration())
