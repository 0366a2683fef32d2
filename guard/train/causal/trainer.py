"""TRL's SFT trainer with a guard's rows, its loss and its own way to be judged while it learns."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerControl, TrainerState
from trl.trainer.sft_trainer import SFTTrainer

from guard.errors import ConfigError
from guard.prompts.prompt import Prompt
from guard.train.causal.dev_eval import DevRow, VerdictScores, ranking, score_verdicts
from guard.train.causal.qlora import keep_stored
from guard.train.causal.rows import IGNORED, EpochRows
from guard.train.common.plot import draw_history


@dataclass(frozen=True, slots=True, repr=False)
class DevSet:
    """What the guard is judged by: rows, and the prompt that knows where the verdict begins."""

    rows: Sequence[DevRow]
    prompt: Prompt


class VerdictTrainer(SFTTrainer):
    """Takes what SFTTrainer takes, but `rows` and `dev_set` (None: never judged) for its data sets.

    first_token_weight: how many times a verdict's first token counts in the loss; the other tokens count once.
    Raises ConfigError where the loss stops being a number and where a checkpoint cannot be written.
    """

    def __init__(
        self, *, rows: EpochRows, dev_set: DevSet | None, first_token_weight: float = 1.0, **options: Any
    ) -> None:
        # TRL takes no data set but its own kind. It checks this one row, and trains on what stands in its place below.
        first = Dataset.from_list([rows[0]])
        super().__init__(train_dataset=first, eval_dataset=first if dev_set else None, **options)
        if options.get("quantization_config") is not None:
            # TRL rounds a QLoRA adapter to bf16, and peft widens it when a run goes on, which would be another run.
            adapted: Any = self.model
            for weight in adapted.parameters():
                if weight.requires_grad:
                    weight.data = weight.data.float()
            keep_stored(adapted)
        self.train_dataset = rows
        self.seconds_judging = 0.0
        self._held_out = dev_set
        self._first_token_weight = first_token_weight
        for silent in (PrinterCallback, ProgressCallback):
            self.remove_callback(silent)
        self.add_callback(Progress())

    @property
    def tokens(self) -> int:
        """Tokens trained on since this process began, padding not counted."""
        return int(self._total_train_tokens)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's, with the first token of each verdict weighted."""

        def weighted(**given: Any) -> Any:
            labels: Tensor = given["labels"]
            learnt, weights = labels[:, 1:] != IGNORED, first_token_weights(labels, self._first_token_weight)
            if not labels.is_cpu:
                found = model(**given)
            else:
                # TRL's kernels spare the output layer the positions where nothing is learnt. Without them, on a CPU, it
                # gets all, which costs a small model more than all its layers. So it gets what is learnt, as one row.
                labels, weights = nn.functional.pad(labels[:, 1:][learnt][None], (1, 0)), weights[learnt][None]
                hook = self._backbone.register_forward_hook(functools.partial(learnt_alone, learnt))
                try:
                    found = model(**{**given, "labels": labels})
                finally:
                    hook.remove()
            found.log_probs = found.log_probs * weights
            return found

        return super().compute_loss(weighted, inputs, return_outputs, num_items_in_batch)  # type: ignore[no-untyped-call]

    @property
    def _backbone(self) -> Any:
        """The layers below the output layer, whatever the model is wrapped in."""
        model: Any = self.accelerator.unwrap_model(self.model)
        return (model.get_base_model() if isinstance(model, PeftModel) else model).base_model

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = super().training_step(*args, **kwargs)  # type: ignore[no-untyped-call]
        if not torch.isfinite(loss):
            raise self._no_number("the loss", loss.item())
        return loss

    def _no_number(self, what: str, value: float) -> ConfigError:
        return ConfigError(
            f"step {self.state.global_step + 1}: {what} is {value}; start again from the last checkpoint with a lower "
            f"trainer.learning_rate (it is {self.args.learning_rate:g}), more trainer.warmup_steps or a smaller "
            "trainer.max_grad_norm"
        )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Ranks the held-out rows by their scores and reports it as an evaluation; nothing is generated.

        All processes take part, each with a share of the batches, and get the same numbers.
        """
        assert self._held_out is not None  # the trainer asks for an evaluation only where there is an eval_dataset
        started = time.time()
        model: Any = self.model_wrapped
        training = model.training
        model.eval()
        found = self._read([ids for row in self._held_out.rows for ids in row.prompts], self._held_out.prompt)
        if not np.isfinite(found.odds).all():
            raise self._no_number("a score of a dev row", math.nan)
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in ranking(self._held_out.rows, found).items()}
        self.seconds_judging += time.time() - started
        self.log(metrics)  # still in evaluation mode, or TRL would take it for an entry of the training
        model.train(training)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _read(self, prompts: Sequence[tuple[int, ...]], prompt: Prompt) -> VerdictScores:
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        size, world = self.args.eval_batch_size, self.args.world_size
        batches = [order[at : at + size] for at in range(0, len(order), size)]
        batches += [batches[-1]] * (-len(batches) % world)  # sharded weights need as many forwards from each process
        model: Any = self.model_wrapped
        own: list[tuple[list[int], VerdictScores]] = []
        for batch in batches[self.args.process_index :: world]:
            with self.compute_loss_context_manager():
                own.append((batch, score_verdicts(model, [prompts[i] for i in batch], prompt, self.args.device)))
        found = VerdictScores(np.zeros(len(prompts)), np.zeros(len(prompts)))
        for batch, part in gather_object(own):
            found.odds[batch], found.mass[batch] = part.odds, part.mass
        return found

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint counts once its trainer_state.json, which is written last, is whole (see causal_folder)."""
        trained = [weight.detach() for weight in model.parameters() if weight.requires_grad]
        if not all(bool(torch.isfinite(weight).all()) for weight in trained):
            raise self._no_number("a weight", math.nan)
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]
            if self.is_world_process_zero():
                draw_history(self.state.log_history, Path(str(self.args.output_dir)).parent / "history.png")
        except (OSError, RuntimeError, SafetensorError) as problem:
            raise ConfigError(
                f"{self.args.output_dir}: the checkpoint of step {self.state.global_step} cannot be written: "
                f"{problem}; make room, or lower trainer.save_total_limit, and start the same command again: it goes "
                "on from the last whole checkpoint"
            ) from problem


def learnt_alone(learnt: Tensor, _model: Any, _given: Any, found: Any) -> Any:
    """A forward hook: [1, tokens learnt + 1, width], the last hidden states that a learnt token is predicted from."""
    states = found.last_hidden_state
    found.last_hidden_state = nn.functional.pad(states[:, :-1][learnt][None], (0, 0, 0, 1))
    return found


def first_token_weights(labels: Tensor, weight: float) -> Tensor:
    """[batch, tokens - 1]: `weight` where a row's first learnt token is predicted, 1 elsewhere."""
    learnt = labels[:, 1:] != IGNORED
    first = learnt & (learnt.cumsum(1) == 1)
    return torch.where(first, weight, 1.0)


class Progress(TrainerCallback):
    """One line for each log entry and evaluation, with the speed and the time left."""

    def __init__(self) -> None:
        self._begun = (0, 0.0)  # step and time

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._begun = (state.global_step, time.time())

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        shown = {key.removeprefix("eval_"): value for key, value in logs.items() if isinstance(value, int | float)}
        if "eval_auprc" in logs:
            kept = ("auprc", "auroc", "best_f1", "label_mass")
        else:
            kept = ("loss", "grad_norm", "learning_rate", "mean_token_accuracy")
        told = " ".join(f"{key} {shown[key]:.4g}" for key in kept if key in shown)
        if "loss" in logs:
            step, time_begun = self._begun
            seconds = max(time.time() - time_begun, 1e-9)
            left = seconds / max(1, state.global_step - step) * (state.max_steps - state.global_step)
            told += f" | {logs.get('num_tokens', 0) / seconds:.0f} tokens/s, {left / 60:.0f} min left"
        dev = "dev " if "eval_auprc" in logs else ""
        print(f"step {state.global_step}/{state.max_steps} {dev}{told}", flush=True)  # noqa: T201
