"""What the GPU benchmarks share: random causal models by shape, the machine's own speed at multiplying, and how a
benchmark is asked and answers."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama, and by how much the benchmark's texts are cut for it. square: side of the multiplied matrices."""

    config: dict[str, Any]
    shrink: int
    square: int


SHAPES = {
    "8b": Shape(
        {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
        },
        1,
        8192,
    ),
    "tiny": Shape(
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "initializer_range": 0.2,  # with the usual 0.02 so small a model says the same of everything
        },
        32,
        256,
    ),
}


def random_model(shape: Shape, device: str, dtype: torch.dtype) -> Any:
    """The model with random weights, made where it will run."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(LlamaConfig(**shape.config), dtype=dtype)


def parameters(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters())


def finish(device: str) -> None:
    """Waits until the device has done what it was given: only then does the clock say anything."""
    if device == "cuda":
        torch.cuda.synchronize()


def multiplying_rate(shape: Shape, device: str, dtype: torch.dtype, rounds: int = 20) -> float:
    """Floating-point operations per second of square matrix products on random data: the median round's."""
    n = shape.square
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    taken = []
    for _ in range(rounds + 3):
        finish(device)
        started = time.perf_counter()
        a @ b
        finish(device)
        taken.append(time.perf_counter() - started)
    return 2 * n**3 / sorted(taken[3:])[rounds // 2]


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def command_line(about: str | None, script: str) -> argparse.ArgumentParser:
    """The options that every GPU benchmark takes; `parsed` reads them."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="8b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, help=f"default: {script}.json on a GPU, nothing elsewhere")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What the command line gives; it ends here where a GPU is asked for and there is none."""
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --shape tiny --device cpu runs the script without one")
    return given


def heading(script: str, given: argparse.Namespace, *packages: str) -> dict[str, Any]:
    """What a result begins with: how, when, where and with what it was measured."""
    return {
        "command": f"python benchmarks/{script}.py --shape {given.shape} --device {given.device}",
        "date": date.today().isoformat(),
        "device": device_name(given.device),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def tell(result: dict[str, Any], script: str, given: argparse.Namespace) -> None:
    """Prints the result and writes it to `--out`, or on a GPU to its place in results/."""
    told = json.dumps(result, indent=2)
    print(told)
    out = given.out or (RESULTS / f"{script}.json" if given.device == "cuda" else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(told + "\n", encoding="utf-8")
