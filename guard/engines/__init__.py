"""Engines: `open_engine` gives the one that a bundle's kind needs."""

from __future__ import annotations

from guard.bundle import Bundle, same_renderer
from guard.engines.base import Engine


def open_engine(bundle: Bundle, threads: int | None = None) -> Engine:
    """The engine of a verified bundle; `threads` bounds the cores of one batch (None: all that this process may use).

    Raises BundleError if this code would render the model's input in another way than its training did.
    """
    if bundle.manifest.kind == "mini":
        from guard.engines.mini import MiniEngine
        from guard.prompts.encoder import LAYOUT_DIGEST

        same_renderer(bundle, LAYOUT_DIGEST)
        return MiniEngine(bundle, threads)
    from guard.engines.causal_onnx import CausalOnnxEngine

    return CausalOnnxEngine(bundle, threads)
