"""ArmoRM's two steps on a frozen base: attributes by ridge regression, then a gate over them that learns from pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from guard.errors import DataError
from guard.reward.base import Base
from guard.reward.heads import GatedHead
from guard.reward.supervision import Item

ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
VERBOSITY = "verbosity"  # the attribute that is taken out of the others
STEPS = 2000
LEAST = 10  # answers that have an attribute
_RATE, _BATCH, _HIDDEN, _HELD_OUT = 1e-3, 1024, 1024, 0.1


def fit_attributes(base: Base, names: Sequence[str], rated: Sequence[Item], seed: int) -> GatedHead:
    """A head whose attributes are fitted to rated answers, and whose gate has learnt nothing. DataError for an
    attribute that too few answers have."""
    values = torch.tensor([[float("nan") if v is None else v for v in item.values] for item in rated])
    for name, known in zip(names, (~torch.isnan(values)).sum(0).tolist(), strict=True):
        if known < LEAST:
            raise DataError(f"attribute {name[:40]!r} is known of {known} answers; a ridge regression needs >= {LEAST}")
    torch.manual_seed(seed)
    head = GatedHead(base.width, names, hidden=min(_HIDDEN, 4 * base.width))
    states = base.hidden([(*item.prompt, *item.chosen) for item in rated], None)
    weight, offset = ridge(states, values)
    with torch.no_grad():
        head.linear.weight.copy_(weight)
        head.offset.copy_(offset)
    head.mixing.copy_(without_verbosity(states @ weight.T + offset, list(names)))  # type: ignore[operator]
    return head.eval()


def fit_gate(base: Base, head: GatedHead, pairs: Sequence[Item], seed: int, steps: int = STEPS) -> GatedHead:
    """The head with a gate that learnt from pairs. Its attributes and the base stay as they are."""
    torch.manual_seed(seed)
    head.linear.requires_grad_(False)
    head.offset.requires_grad_(False)
    prompts = base.hidden([item.prompt for item in pairs], None)
    sides = [
        base.hidden([(*item.prompt, *item.chosen) for item in pairs], None),
        base.hidden([(*item.prompt, *item.rejected) for item in pairs], None),
    ]
    optimiser = torch.optim.AdamW([p for p in head.parameters() if p.requires_grad], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    head.train()
    for _ in range(steps):
        drawn = torch.randint(len(pairs), (min(_BATCH, len(pairs)),))
        chosen, rejected = (head(side[drawn], prompts[drawn])[0] for side in sides)
        loss = -nn.functional.logsigmoid(chosen - rejected).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    return head.eval()


def ridge(states: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """([attributes, width], [attributes]): weights and offsets, each attribute with the penalty that suits its held-out
    rows best. Values that are NaN are left out."""
    weights, offsets = [], []
    for column in range(values.shape[1]):
        known = ~torch.isnan(values[:, column])
        x, y = states[known].double(), values[known, column].double()
        apart = torch.arange(len(y)) % max(2, round(1 / _HELD_OUT)) == 0
        best = min(ALPHAS, key=lambda alpha: _error(_solve(x[~apart], y[~apart], alpha), x[apart], y[apart]))
        weight, offset = _solve(x, y, best)
        weights.append(weight)
        offsets.append(offset)
    return torch.stack(weights).float(), torch.stack(offsets).float()


def _solve(x: Tensor, y: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    middle, mean = x.mean(0), y.mean()
    centred = x - middle
    gram = centred.T @ centred + alpha * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (y - mean))
    return weight, mean - middle @ weight


def _error(solved: tuple[Tensor, Tensor], x: Tensor, y: Tensor) -> float:
    weight, offset = solved
    return float(((x @ weight + offset - y) ** 2).mean())


def without_verbosity(fitted: Tensor, names: Sequence[str]) -> Tensor:
    """[names, names]: takes as much verbosity from each other attribute as leaves the two uncorrelated."""
    mixing = torch.eye(len(names))
    if VERBOSITY not in names:
        return mixing
    at = names.index(VERBOSITY)
    centred = fitted - fitted.mean(0)
    shares = (centred * centred[:, at : at + 1]).mean(0) / centred[:, at].square().mean().clamp(min=1e-9)
    mixing[:, at] -= shares.clamp(min=0) * (torch.arange(len(names)) != at)
    return mixing
