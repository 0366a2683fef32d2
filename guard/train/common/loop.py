"""A training loop: one step per batch, complete checkpoints, and a dev evaluation at each of them."""

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
_LOG_STEPS = 50  # steps between two lines of progress
_MEAN = 200  # steps in the mean loss of a checkpoint

Batch = TypeVar("Batch")
Judge = Callable[[], Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class Plan:
    """steps: in total. identity: must be equal for a run to resume from a checkpoint."""

    out: Path
    steps: int
    checkpoint_steps: int
    seed: int
    identity: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a loop: the history of its checkpoints, and tokens per second (None if no step was left)."""

    history: list[dict[str, Any]]
    tokens_per_s: int | None


def adamw(
    model: nn.Module, rates: Mapping[str, float], weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters. `rates`: learning rates by name prefix; the longest prefix counts, "" is
    the rest. Weight decay applies to matrices only."""
    groups: dict[tuple[str, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            start = max((start for start in rates if name.startswith(start)), key=len)
            groups.setdefault((start, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rates[start], "weight_decay": weight_decay if matrix else 0.0}
            for (start, matrix), parameters in groups.items()
        ],
        betas=betas,
        fused=True,
    )


def rising_then_falling(optimiser: torch.optim.Optimizer, warmup: int, steps: int) -> Any:
    """Linear warmup for `warmup` steps, then linear decay to 0 at `steps`."""
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
    """Runs the remaining steps of the plan. `loss_of` returns a batch's loss at a step, and its tokens.

    Its random numbers must come from torch's generator, which is seeded for each step, or from a generator of its own
    for that step: so a killed run resumes as if it had never stopped. ConfigError if the plan has no steps, the
    checkpoint has another configuration or the loss is not finite, DataError if a checkpoint cannot be written.
    """
    if plan.steps < 1:
        raise ConfigError("the run has no steps and would not change the model; increase epochs, or give more rows")
    checkpoint = plan.out / "checkpoint.pt"
    step, history = 0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["identity"] != plan.identity:
            raise ConfigError(
                f"{checkpoint}: has another configuration; remove it, or choose another folder with --out"
            )
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        step, history = state["step"], state["history"]
        print(f"resuming at step {step}", flush=True)  # noqa: T201
        history[-1] |= judge()  # it was saved before this
    model.train()
    first_step, started, seen, losses = step, time.time(), 0, []
    for batch in itertools.islice(batches, step, plan.steps):
        torch.manual_seed(plan.seed * 1_000_003 + step)
        loss, tokens = loss_of(batch, step)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ConfigError(
                f"the loss of step {step + 1} is {losses[-1]}; lower the learning rate, then run again: "
                f"{'it resumes from ' + str(checkpoint) if checkpoint.exists() else 'no checkpoint was saved yet'}"
            )
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        step, seen = step + 1, seen + tokens
        if step % _LOG_STEPS == 0:
            elapsed = time.time() - started
            left = elapsed / (step - first_step) * (plan.steps - step)
            speed = f"{seen / elapsed:.0f} tokens/s, {left / 60:.0f} min left"
            print(f"step {step}/{plan.steps} loss {np.mean(losses[-_LOG_STEPS:]):.4f} | {speed}", flush=True)  # noqa: T201
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
            f"{checkpoint}: {problem.strerror or 'cannot be written'}; free disk space and run again, to resume from "
            "the last checkpoint"
        ) from None
