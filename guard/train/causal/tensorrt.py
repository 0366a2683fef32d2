"""TensorRT engines of a causal bundle, built through ONNX Runtime for the GPU of this machine and kept in a cache.

An engine fits one kind of GPU and one version of TensorRT, so it lies beside the bundle and not in it. The two shapes
that a guard runs are the policy's prefix (one row, nothing before it) and the conversations after it; one profile spans
both. Names of options: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from guard.bundle import open_bundle
from guard.conversation import Conversation
from guard.engines.base import all_scores
from guard.engines.causal_graph import CausalGraph
from guard.engines.causal_onnx import CausalOnnxEngine
from guard.errors import BundleError, EngineError

PROVIDER, FALLBACK = "TensorrtExecutionProvider", "CUDAExecutionProvider"
INSTALL = (
    "it needs an NVIDIA GPU, onnxruntime-gpu in place of onnxruntime, and TensorRT 10: "
    "pip uninstall onnxruntime; pip install onnxruntime-gpu 'tensorrt-cu13>=10,<11'"
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """least, usual and most of each dimension that varies. Shapes beyond `most` make TensorRT build anew."""

    batch: tuple[int, int, int] = (1, 16, 64)
    tokens: tuple[int, int, int] = (1, 128, 4096)
    past: tuple[int, int, int] = (0, 1024, 4096)
    kept: tuple[int, int, int] = (1, 1, 64)  # rows of the past that the batch goes on from
    read: tuple[int, int, int] = (1, 1, 16)
    wanted: tuple[int, int, int] = (1, 2, 64)


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the graph: its dimensions by name, or by size where they are fixed."""

    name: str
    shape: tuple[str | int, ...]


def options(inputs: Iterable[Input], cache: Path, sizes: Sizes, half: bool, device: int = 0) -> dict[str, str]:
    """The provider's options: profiles of every input, precision, caches. BundleError for an input nobody described."""
    given = list(inputs)
    profiles = {
        f"trt_profile_{end}_shapes": ",".join(f"{item.name}:{_shape(item, sizes, place)}" for item in given)
        for place, end in enumerate(("min", "opt", "max"))
    }
    return {
        "device_id": str(device),
        "trt_fp16_enable": str(half),
        "trt_layer_norm_fp32_fallback": str(half),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(cache),
        **profiles,
    }


def _shape(item: Input, sizes: Sizes, place: int) -> str:
    return "x".join(str(_size(item, dimension, axis, sizes, place)) for axis, dimension in enumerate(item.shape))


def _size(item: Input, dimension: str | int, axis: int, sizes: Sizes, place: int) -> int:
    if isinstance(dimension, int):
        return dimension
    if item.name == "attention_mask" and axis == 1:  # what was before and what is new
        return sizes.past[place] + sizes.tokens[place]
    if not hasattr(sizes, dimension):
        raise BundleError(f"graph input {item.name}: dimension {dimension!r} is in no profile; export the bundle again")
    found: tuple[int, int, int] = getattr(sizes, dimension)
    return found[place]


def require(available: Sequence[str] | None = None) -> None:
    """EngineError naming what to install, unless ONNX Runtime can offer TensorRT. That it then works, `build` shows."""
    found = onnxruntime.get_available_providers() if available is None else available
    if PROVIDER not in found:
        raise EngineError(f"ONNX Runtime {onnxruntime.__version__} has no TensorRT ({', '.join(found)}): {INSTALL}")


def build(bundle: Path, cache: Path, sizes: Sizes | None = None, device: int = 0) -> list[str]:
    """Builds the engines of a bundle into the folder `cache`; a line for each file made.

    Half precision is allowed where the bundle is fp16. Raises EngineError where TensorRT is not present or refuses.
    """
    require()
    opened = open_bundle(bundle)
    if opened.manifest.kind != "causal":
        raise BundleError(f"{bundle}: a {opened.manifest.kind} guard runs on the CPU; TensorRT is for causal guards")
    path = opened.path("model.onnx")
    plain = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [Input(item.name, tuple(item.shape)) for item in plain.get_inputs()]
    half = any(item.type == "tensor(float16)" for item in plain.get_inputs())
    del plain
    cache.mkdir(parents=True, exist_ok=True)
    session = _opened(path, options(inputs, cache, sizes or Sizes(), half, device), device)
    engine = CausalOnnxEngine(opened, graph=CausalGraph(session, str(path)))
    windows = engine.tokenize(Conversation.of("hello"), opened.policy).windows
    all_scores(engine, windows)  # the first run builds
    all_scores(engine, [*windows] * 16)
    made = sorted(file for file in cache.iterdir() if file.suffix == ".engine")
    if not made:
        raise EngineError(f"{cache}: TensorRT took no part of the graph; run with ONNX Runtime's log to see why")
    return [f"{file.name}: {file.stat().st_size / 1e6:.1f} MB" for file in made]


def _opened(path: Path, given: dict[str, str], device: int) -> onnxruntime.InferenceSession:
    providers: list[Any] = [(PROVIDER, given), (FALLBACK, {"device_id": str(device)}), "CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as problem:
        raise EngineError(f"{path}: TensorRT refused it ({type(problem).__name__}): {INSTALL}") from problem
    if PROVIDER not in session.get_providers():  # it falls back with a line in its log
        raise EngineError(f"{path}: ONNX Runtime lists TensorRT but cannot use it here: {INSTALL}")
    return session
