"""The kinds of engine. A new kind is an entry here and a module with its opener."""

from __future__ import annotations

import importlib
from typing import Protocol

from guard.bundle import Bundle
from guard.engines.base import Engine
from guard.errors import BundleError


class Opener(Protocol):
    """Opens the engine of a verified bundle. `threads` bounds the cores of one batch (None: all usable ones)."""

    def __call__(self, bundle: Bundle, threads: int | None) -> Engine: ...


# Kind of a bundle → module and name of its opener. Modules are imported when a bundle of their kind is opened.
KINDS = {
    "mini": ("guard.engines.mini", "MiniEngine"),
    "causal": ("guard.engines.causal_onnx", "CausalOnnxEngine"),
    "cascade": ("guard.engines.cascade", "open_cascade"),
}


def open_engine(bundle: Bundle, threads: int | None = None) -> Engine:
    """The engine of a verified bundle.

    Raises BundleError if there is no engine of its kind, if its files cannot be loaded, or if this version renders
    the model's input differently from its training.
    """
    kind = bundle.manifest.kind
    if kind not in KINDS:
        raise BundleError(f"{bundle.root}: unknown bundle kind {kind[:40]!r}; allowed: {', '.join(KINDS)}")
    module, name = KINDS[kind]
    opener: Opener = getattr(importlib.import_module(module), name)
    return opener(bundle, threads)
