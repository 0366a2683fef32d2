"""The kinds of engine. A new kind is an entry here and a module with its openers."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from guard.bundle import Bundle, open_bundle
from guard.engines.base import Engine, Renderer
from guard.engines.pool import EnginePool
from guard.errors import BundleError


class Opener(Protocol):
    """Opens the engine of a verified bundle. `threads` bounds the cores of one batch (None: all usable ones)."""

    def __call__(self, bundle: Bundle, threads: int | None) -> Engine: ...


class RendererOpener(Protocol):
    """Opens the renderer of a verified bundle, without its weights. `threads`: of the engine that it is for."""

    def __call__(self, bundle: Bundle, threads: int | None) -> Renderer: ...


class Kind(NamedTuple):
    """A module, and the names of its Opener and its RendererOpener. It is imported when its first bundle is opened."""

    module: str
    engine: str
    renderer: str


KINDS = {
    "mini": Kind("guard.engines.mini", "MiniEngine", "MiniRenderer"),
    "causal": Kind("guard.engines.causal_onnx", "CausalOnnxEngine", "CausalRenderer"),
    "cascade": Kind("guard.engines.cascade", "open_cascade", "open_cascade_renderer"),
}


def open_engine(bundle: Bundle, threads: int | None = None) -> Engine:
    """The engine of a verified bundle.

    Raises BundleError if there is no engine of its kind, if its files cannot be loaded, or if this version renders
    the model's input differently from its training.
    """
    kind = _kind(bundle)
    return cast(Opener, getattr(importlib.import_module(kind.module), kind.engine))(bundle, threads)


def open_renderer(bundle: Bundle, threads: int | None = None) -> Renderer:
    """The half of its engine that makes windows. Raises as `open_engine` does, of what needs no weights."""
    kind = _kind(bundle)
    return cast(RendererOpener, getattr(importlib.import_module(kind.module), kind.renderer))(bundle, threads)


def open_pool(bundle: Bundle, threads: int | None, workers: int) -> EnginePool:
    """An engine of so many processes, each of which opens the bundle for itself. Raises as `open_renderer` does."""
    opener = partial(_open_same, bundle.root, bundle.manifest.model, threads)
    return EnginePool(open_renderer(bundle, threads), opener, workers)


def _open_same(root: Path, model: str, threads: int | None) -> Engine:
    """The engine of that model: where another has taken its place meanwhile, windows and scores would not fit."""
    bundle = open_bundle(root)
    if bundle.manifest.model != model:
        raise BundleError(
            f"{root}: holds model {bundle.manifest.model[:12]} now, in place of {model[:12]}; load it with SIGHUP or "
            "`guard admin reload`"
        )
    return open_engine(bundle, threads)


def _kind(bundle: Bundle) -> Kind:
    kind = bundle.manifest.kind
    if kind not in KINDS:
        raise BundleError(f"{bundle.root}: unknown bundle kind {kind[:40]!r}; allowed: {', '.join(KINDS)}")
    return KINDS[kind]
