"""Heads on the last hidden state: one number or several, ArmoRM's gate, and CLoud's, with how they become one score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from guard.errors import BundleError

FILE = "head.safetensors"


class LinearHead(nn.Module):
    """Hidden states [rows, width] → one number for each name; the score is their sum under fixed weights."""

    kind = "linear"

    def __init__(self, width: int, names: Sequence[str], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.names = tuple(names)
        self.linear = nn.Linear(width, len(self.names), bias=False)
        weighted = torch.tensor(weights) if weights is not None else torch.ones(len(self.names)) / len(self.names)
        self.register_buffer("weights", weighted.float())

    def forward(self, state: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """(scores [rows], attributes [rows, names]); `prompt` is the state at the end of the prompt, unused here."""
        attributes = self.linear(state)
        return attributes @ self.weights, attributes


class CriticHead(LinearHead):
    """Linear, tanh, linear, read behind a review."""

    kind = "critic"

    def __init__(self, width: int, names: Sequence[str], weights: Sequence[float] | None = None) -> None:
        super().__init__(width, names, weights)
        self.inner = nn.Linear(width, width)

    def forward(self, state: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        attributes = self.linear(torch.tanh(self.inner(state)))
        return attributes @ self.weights, attributes


class GatedHead(LinearHead):
    """Attributes by a linear map of the answer's state, weighted by what the prompt is about.

    `mixing` [names, names] takes from each attribute what a verbose answer gains by its length alone.
    """

    kind = "gated"

    def __init__(
        self, width: int, names: Sequence[str], weights: Sequence[float] | None = None, hidden: int = 256
    ) -> None:
        super().__init__(width, names, weights)
        self.offset = nn.Parameter(torch.zeros(len(self.names)))
        layers: list[nn.Module] = []
        for size in (width, hidden):
            layers += [nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.2)]
        self.gate = nn.Sequential(*layers, nn.Linear(hidden, len(self.names)))
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("mixing", torch.eye(len(self.names)))

    def forward(self, state: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        attributes = self.linear(state) + self.offset
        shares = torch.softmax(self.gate(prompt), -1)
        return self.scale * (shares * (attributes @ self.mixing.T)).sum(-1), attributes


KINDS: Mapping[str, type[LinearHead]] = {cls.kind: cls for cls in (LinearHead, CriticHead, GatedHead)}


def save_head(head: LinearHead, folder: Path) -> None:
    described = {"kind": head.kind, "names": json.dumps(head.names)}
    weights = {name: tensor.detach().float().contiguous() for name, tensor in head.state_dict().items()}
    save_file(weights, folder / FILE, metadata=described)
    (folder / FILE).chmod(0o644)


def load_head(folder: Path, width: int) -> LinearHead:
    """The head in a folder. BundleError if it does not fit a model of that width."""
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            described: dict[str, Any] = file.metadata()
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        cls, names = KINDS[described["kind"]], json.loads(described["names"])
        gated = cls is GatedHead
        head = GatedHead(width, names, hidden=len(weights["gate.0.bias"])) if gated else cls(width, names)
        head.load_state_dict(weights)
    except (OSError, KeyError, RuntimeError, ValueError) as problem:
        raise BundleError(f"{folder / FILE}: no head for a base of width {width} ({type(problem).__name__})") from None
    return head.eval()
