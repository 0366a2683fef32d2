"""The kinds of engine. A new kind is an entry here, and a module that holds its opener."""

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
}


def open_engine(bundle: Bundle, threads: int | None = None) -> Engine:
    """The engine of a verified bundle.

    Raises BundleError if no engine is of its kind, if its files cannot be loaded, or if this version would render the
    model's input in another way than its training did.
    """
    kind = bundle.manifest.kind
    if kind not in KINDS:
        raise BundleError(f"{bundle.root}: a bundle of kind {kind[:40]!r}; this version opens {', '.join(KINDS)}")
    module, name = KINDS[kind]
    opener: Opener = getattr(importlib.import_module(module), name)
    return opener(bundle, threads)
