"""`guard --version`: the package, and the default model and policy by digest."""

from __future__ import annotations

import importlib.metadata
import json

from guard import assets, policy
from guard.bundle import MANIFEST
from guard.errors import DISTRIBUTION


def version_text() -> str:
    """Three lines: package, default model, default policy."""
    manifest = json.loads((assets.default_bundle() / MANIFEST).read_text(encoding="utf-8"))
    own = policy.load(assets.default_bundle() / "policy.yaml")
    return "\n".join(
        (
            f"{DISTRIBUTION} {importlib.metadata.version(DISTRIBUTION)}",
            f"model {manifest['name']} {manifest['model']}",
            f"policy {own.id} {own.version} {own.digest}",
        )
    )
