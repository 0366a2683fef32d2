"""A training loop: one step a batch, checkpoints that hold everything, held-out rows judged at each of them."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from guard.errors import ConfigError, DataError
from guard.jobs.atomic import atomic

CLIP = 1.0  # the largest norm of a step's gradient
_TOLD = 50  # steps between two lines of progress
_MEAN = 200  # steps whose mean loss a checkpoint tells

Batch = TypeVar("Batch")
Judge = Callable[[], Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class Plan:
    """steps: in all. identity: what a resumed run must have in common with the one that was stopped."""

    out: Path
    steps: int
    checkpoint_steps: int
    seed: int
    identity: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What a loop leaves: the history of its checkpoints, and tokens a second (None if it had no step left to take)."""

    history: list[dict[str, Any]]
    tokens_per_s: int | None


def adamw(
    model: nn.Module, rates: Mapping[str, float], weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW over what is to be trained. `rates`: the learning rate of parameters whose names start so; the longest
    such start counts, "" is the rest. Only matrices decay."""
    groups: dict[tuple[str, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            start = max((start for start in rates if name.startswith(start)), key=len)
            groups.setdefault((start, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": found, "lr": rates[start], "weight_decay": weight_decay if matrix else 0.0}
            for (start, matrix), found in groups.items()
        ],
        betas=betas,
        fused=True,
    )


def rising_then_falling(optimiser: torch.optim.Optimizer, warmup: int, steps: int) -> Any:
    """The learning rate rises for `warmup` steps and falls in a line to 0 at `steps`."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda done: min((done + 1) / max(1, warmup), (steps - done) / max(1, steps - warmup))
    )


def run_loop(
    plan: Plan,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: Any,
    batches: Iterable[Batch],
    loss_of: Callable[[Batch, int], tuple[Tensor, int]],
    judge: Judge,
) -> Finished:
    """Takes the steps that are left of the plan. `loss_of` gives a batch's loss at a step, and its tokens.

    Whatever it draws must come from torch's generator, which is seeded for each step, or from its own for that step: so
    a run that was killed goes on as if it had not been. ConfigError if the plan has no steps, the checkpoint is of
    another configuration or the loss is no longer a number, DataError if a checkpoint cannot be written.
    """
    if plan.steps < 1:
        raise ConfigError(
            "the run has no step to take: it would leave a model as it began; give more epochs, or more rows"
        )
    checkpoint = plan.out / "checkpoint.pt"
    step, history = 0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["identity"] != plan.identity:
            raise ConfigError(
                f"{checkpoint}: is of another configuration; remove it, or give another folder with --out"
            )
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        step, history = state["step"], state["history"]
        print(f"resuming at step {step}", flush=True)  # noqa: T201
        history[-1] |= judge()  # it was saved before this
    model.train()
    begun, started, seen, losses = step, time.time(), 0, []
    for batch in itertools.islice(batches, step, plan.steps):
        torch.manual_seed(plan.seed * 1_000_003 + step)
        loss, tokens = loss_of(batch, step)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ConfigError(
                f"the loss of step {step + 1} is {losses[-1]}; lower the learning rate, then run again: "
                f"{'it goes on from ' + str(checkpoint) if checkpoint.exists() else 'nothing was saved yet'}"
            )
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        step, seen = step + 1, seen + tokens
        if step % _TOLD == 0:
            took = time.time() - started
            told = f"{seen / took:.0f} tokens/s, {took / (step - begun) * (plan.steps - step) / 60:.0f} min left"
            print(f"step {step}/{plan.steps} loss {np.mean(losses[-_TOLD:]):.4f} | {told}", flush=True)  # noqa: T201
        if step % plan.checkpoint_steps == 0 or step == plan.steps:
            history.append({"step": step, "loss": float(np.mean(losses[-_MEAN:]))})
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            _save(
                state | {"identity": plan.identity, "schedule": schedule.state_dict(), "history": history}, checkpoint
            )
            history[-1] |= judge()
            model.train()
            print(json.dumps(history[-1]), flush=True)  # noqa: T201
    return Finished(history, round(seen / (time.time() - started)) if seen else None)


def _save(state: Mapping[str, Any], checkpoint: Path) -> None:
    try:
        with atomic(checkpoint) as file:
            torch.save(state, file)
    except OSError as problem:
        raise DataError(
            f"{checkpoint}: {problem.strerror or 'cannot be written'}; make room and run again, to go on from the last "
            "checkpoint that was written"
        ) from None
