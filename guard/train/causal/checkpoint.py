"""A model's folder of safetensors: where it lies, what its tensors are called, and their values one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from guard.errors import BundleError
from guard.train.causal.gguf import converted, is_gguf

INDEX = "model.safetensors.index.json"


class Checkpoint:
    """The tensors of a folder, by their names. Not thread-safe. BundleError where a file or a shard cannot be read."""

    def __init__(self, root: Path) -> None:
        self._places = _places(root)
        self._open: dict[Path, Any] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def read(self, name: str) -> Tensor:
        path = self._places[name]
        if path not in self._open:
            self._open[path] = opened(path)
        found: Tensor = self._open[path].get_tensor(name)
        return found

    def require(self, names: Iterable[str]) -> None:
        """BundleError unless it holds a tensor of each name."""
        absent = [name for name in names if name not in self._places]
        if absent:
            raise BundleError(
                f"the base's safetensors hold no tensor {absent[0]} ({len(absent)} of this model's are not there by "
                "name); is the download whole, is it a causal LM?"
            )


def model_folder(base: str, options: Mapping[str, Any], weights: bool = True) -> Path:
    """Where a base lies: a folder, that of a GGUF file, or a model of the hub that was downloaded or can be now.

    options: what it is loaded with for the training. weights: whether they are needed, too. BundleError if it is
    nowhere.
    """
    if Path(base).is_dir():
        return Path(base)
    if is_gguf(base):
        return converted(Path(base))
    try:
        wanted = ["*.json", "*.jinja", *(["*.safetensors"] if weights else [])]
        return Path(snapshot_download(base, revision=options.get("revision"), allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as problem:
        raise BundleError(unreachable(base, problem)) from None


def loadable(base: str) -> str:
    """What transformers loads a base from: its folder or its name on the hub; of a GGUF file the converted folder."""
    return str(converted(Path(base))) if is_gguf(base) and not Path(base).is_dir() else base


def unreachable(base: str, problem: Exception) -> str:
    """What to do about a base that is no folder and that the hub did not give."""
    offline = " (HF_HUB_OFFLINE is set)" if HF_HUB_OFFLINE else ""
    return (
        f"base {base!r}: no folder of that name, and the hub gave none{offline}: {type(problem).__name__}; where there "
        f"is a network run `hf download {base} --local-dir FOLDER` (gated models need `hf auth login` first), then "
        "give that folder, or a .gguf file, as the base"
    )


def opened(path: Path) -> Any:
    """A safetensors file. BundleError if it is not a whole one."""
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as problem:
        raise BundleError(f"{path}: cannot be read ({type(problem).__name__}); download it again") from None


def _places(root: Path) -> dict[str, Path]:
    """The shard of every tensor."""
    if (root / INDEX).is_file():
        names = json.loads((root / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return {name: root / file for name, file in names.items()}
    path = root / "model.safetensors"
    if not path.is_file():
        raise BundleError(f"{root}: no {INDEX} and no model.safetensors; convert the base to safetensors")
    return dict.fromkeys(opened(path).keys(), path)
