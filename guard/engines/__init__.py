"""Engines: `open_engine` gives the one that a bundle's kind needs."""

from __future__ import annotations

from guard.bundle import Bundle
from guard.engines.base import Engine
from guard.errors import BundleError


def open_engine(bundle: Bundle, threads: int | None = None) -> Engine:
    """The engine of a verified bundle; `threads` bounds the cores of one batch (None: all that this process may use).

    Raises BundleError if this code would render the model's input in another way than its training did.
    """
    if bundle.manifest.kind == "mini":
        from guard.encoder_input import LAYOUT_DIGEST
        from guard.engines.mini import MiniEngine

        _same_renderer(bundle, LAYOUT_DIGEST)
        return MiniEngine(bundle, threads)
    from guard.engines.causal_onnx import CausalOnnxEngine
    from guard.prompt import TEMPLATE_DIGEST

    _same_renderer(bundle, TEMPLATE_DIGEST)
    return CausalOnnxEngine(bundle, threads)


def _same_renderer(bundle: Bundle, digest: str) -> None:
    if bundle.manifest.renderer != digest:
        raise BundleError(
            f"{bundle.root}: its inputs were rendered by layout {bundle.manifest.renderer}, this version renders by "
            f"{digest}; export it again with this version"
        )
