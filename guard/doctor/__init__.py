"""Diagnoses an installation or a model: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guard.bundle import MANIFEST
from guard.doctor.check import Check, failed
from guard.errors import InvalidInput


def examine(model: Path | None = None, policy: str | None = None, weights: bool = True) -> Iterator[Check]:
    """Checks the installation, then `model`: a bundle or the folder of a base model (None: the shipped guard).

    policy: a shipped name or a file; None: the model's own. weights: whether to load the weights and transformers.
    Raises InvalidInput if there is no such folder, PolicyError if there is no such policy.
    """
    from guard.doctor import bundle, folder, installation

    if model is not None and not model.is_dir():
        raise InvalidInput(f"{model}: no such folder; give a bundle or the folder of a model from the hub")
    yield from installation.checks()
    if model is None or (model / MANIFEST).is_file():
        yield from bundle.checks(model, policy, weights)
    else:
        yield from folder.checks(model, policy, weights)


__all__ = ["Check", "examine", "failed"]
