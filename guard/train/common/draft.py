"""A bundle that is not finished: what its manifest takes from the run, and its seal for checks that need an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guard import bundle, policy
from guard.bundle import Bundle
from guard.calibration import Calibration
from guard.train.common.identity import check_unchanged
from guard.train.common.run_folder import packages


def common_fields(record: dict[str, Any], made: Path) -> dict[str, Any]:
    """What every bundle's manifest takes from its run."""
    rules = policy.load(made / "policy.yaml")
    check_unchanged(record, "policy", rules.digest, "policy.yaml of the run", "restore it, or train again")
    return {
        "name": made.name,
        "policy": rules.digest,
        "max_tokens": record["config"]["max_tokens"],
        "overlap": record["config"]["overlap"],
        "data": record["data"],
        "packages": packages(),
    }


def sealed(made: Path, fields: dict[str, Any]) -> Bundle:
    """The bundle as it stands, for the checks that need an engine before the final seal."""
    return Bundle(made, bundle.seal(made, **fields), policy.load(made / "policy.yaml"), Calibration())
