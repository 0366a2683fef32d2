"""Diagnoses an installation or a model: what is wrong, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from guard.bundle import MANIFEST
from guard.doctor.check import Check, failed
from guard.errors import InvalidInput, need

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def examine(model: Path | None = None, policy: str | None = None, weights: bool = True) -> Iterator[Check]:
    """Checks the installation, then `model`: a bundle or a base model (None: the shipped guard).

    model: a folder, a .gguf file, or a name on the hub. policy: a shipped name or a file; None: the model's own.
    weights: whether to load the weights and transformers. Raises InvalidInput if there is no such folder, BundleError
    if a file or the hub gives no model, PolicyError if there is no such policy.
    """
    from guard.doctor import bundle, folder, installation

    if model is not None and not model.is_dir():
        model = _folder(model, weights)
    yield from installation.checks()
    if model is None or (model / MANIFEST).is_file():
        yield from bundle.checks(model, policy, weights)
    else:
        yield from folder.checks(model, policy, weights)


def _folder(model: Path, weights: bool) -> Path:
    """The folder of a base that is not given as one."""
    if model.suffix.lower() != ".gguf" and not _HUB_NAME.fullmatch(str(model)):
        raise InvalidInput(
            f"{model}: no such folder; give a bundle, the folder of a base model, a .gguf file, or a name on the hub, "
            "like Qwen/Qwen3-0.6B"
        )
    need("transformers", "train")
    from guard.train.causal.checkpoint import model_folder

    return model_folder(str(model), {}, weights)


__all__ = ["Check", "examine", "failed"]
