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
from guard.prompts.window import Ids
from guard.train.causal.attention import use_shared_prefix
from guard.train.causal.dev_eval import DevRow, VerdictScores, ranking, score_verdicts
from guard.train.causal.groups import EpochBatches
from guard.train.causal.qlora import keep_stored
from guard.train.causal.rows import IGNORED
from guard.train.causal.step import collated, verdict_loss
from guard.train.common.plot import draw_history


@dataclass(frozen=True, slots=True, repr=False)
class DevSet:
    """What the guard is judged by: rows, the policy's prefix before their windows, and the prompt that made both."""

    rows: Sequence[DevRow]
    prefix: Ids
    prompt: Prompt


class VerdictTrainer(SFTTrainer):
    """Takes what SFTTrainer takes, but `batches` and `dev_set` (None: never judged) for its data sets.

    share_prefix: whether a group's policy goes through the model once, or once for each row. frozen_layers: how many of
    the lowest layers, and the embeddings with them, stay as they are. first_token_weight: how many times a verdict's
    first token counts in the loss; the other tokens count once.
    Raises ConfigError where the loss stops being a number and where a checkpoint cannot be written.
    """

    def __init__(
        self,
        *,
        batches: EpochBatches,
        dev_set: DevSet | None,
        share_prefix: bool,
        frozen_layers: int = 0,
        first_token_weight: float = 1.0,
        **options: Any,
    ) -> None:
        # TRL takes no data set but its own kind. It checks this one row, and trains on what stands in its place below.
        asked, verdict = batches[0][0].rows[0]
        row = {"input_ids": [*asked, *verdict], "labels": [IGNORED] * len(asked) + [*verdict]}
        first = Dataset.from_list([row])
        pad = options["processing_class"].pad_token_id
        collate = functools.partial(collated, pad=pad)
        super().__init__(train_dataset=first, eval_dataset=first if dev_set else None, data_collator=collate, **options)
        adapted: Any = self.model
        if options.get("quantization_config") is not None:
            # TRL rounds a QLoRA adapter to bf16, and peft widens it when a run goes on, which would be another run.
            for weight in adapted.parameters():
                if weight.requires_grad:
                    weight.data = weight.data.float()
            keep_stored(adapted)
        self._narrowed = bool(self.args.bf16 and self.args.use_cpu and not isinstance(adapted, PeftModel))
        freeze(adapted, frozen_layers, narrow=self._narrowed)
        if share_prefix:
            bare: Any = adapted.get_base_model() if isinstance(adapted, PeftModel) else adapted
            use_shared_prefix(bare, self.args.device.type)
        self.model_accepts_loss_kwargs = True  # the loss below is a mean over the whole step
        self.train_dataset = batches
        self.seconds_judging = 0.0
        self.tokens = 0  # trained on since this process began, padding not counted, a shared prefix counted once
        self._held_out = dev_set
        self._share_prefix = share_prefix
        self._first_token_weight = first_token_weight
        for silent in (PrinterCallback, ProgressCallback):
            self.remove_callback(silent)
        self.add_callback(Progress())

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over the tokens that the whole step learns."""
        found = [
            verdict_loss(model, self._backbone, group, self._share_prefix, self._first_token_weight)
            for group in inputs["groups"]
        ]
        learnt = sum(len(each.tokens) for each in found)
        total = torch.stack([each.tokens.sum() for each in found]).sum()
        loss = total / (learnt if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # whose mean is taken of the gradients
        for group in inputs["groups"]:
            prefixes = 1 if self._share_prefix else len(group["labels"])
            self.tokens += prefixes * group["prefix"].shape[1] + int(group["mask"].sum())
        self._metrics["train"]["mean_token_accuracy"].append(sum(each.right for each in found) / learnt)
        self._metrics["train"]["num_tokens"] = [self.tokens]
        return loss

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
        found = self._read([ids for row in self._held_out.rows for ids in row.windows], self._held_out)
        if not np.isfinite(found.odds).all():
            raise self._no_number("a score of a dev row", math.nan)
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in ranking(self._held_out.rows, found).items()}
        self.seconds_judging += time.time() - started
        self.log(metrics)  # still in evaluation mode, or TRL would take it for an entry of the training
        model.train(training)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Of checkpoints that rank equally well the last is the best: it has learnt more of what is not ranked, the
        categories."""
        best = self.state.best_metric
        if best is not None and metrics.get(f"eval_{self.args.metric_for_best_model}") == best:
            self.state.best_metric = math.nextafter(best, -math.inf)
        found: bool = super()._determine_best_metric(metrics, trial)
        return found

    def _read(self, windows: Sequence[Ids], dev_set: DevSet) -> VerdictScores:
        order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
        size, world = self.args.eval_batch_size, self.args.world_size
        batches = [order[at : at + size] for at in range(0, len(order), size)]
        batches += [batches[-1]] * (-len(batches) % world)  # sharded weights need as many forwards from each process
        model: Any = self.model_wrapped
        own: list[tuple[list[int], VerdictScores]] = []
        for batch in batches[self.args.process_index :: world]:
            with self.compute_loss_context_manager():
                chosen = [windows[index] for index in batch]
                read = score_verdicts(
                    model, dev_set.prefix, chosen, dev_set.prompt, self.args.device, self._share_prefix
                )
            own.append((batch, read))
        found = VerdictScores(np.zeros(len(windows)), np.zeros(len(windows)))
        for batch, part in gather_object(own):
            found.odds[batch], found.mass[batch] = part.odds, part.mass
        return found

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights of one precision, whatever the frozen ones were kept in."""
        if self._narrowed:
            given = self.model.state_dict() if state_dict is None else state_dict  # type: ignore[union-attr]
            wide: dict[int, Tensor] = {}  # by place, as tied weights are one
            state_dict = {name: wide.setdefault(weight.data_ptr(), weight.float()) for name, weight in given.items()}
        super()._save(output_dir, state_dict)

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


def freeze(model: nn.Module, layers: int, narrow: bool = False) -> None:
    """Stops the lowest layers of a model, and its embeddings, from learning; does nothing for none.

    narrow: keeps them in bf16. A CPU that computes in bf16 would round them anew in each step, and with embeddings in
    fp32 all states between layers are as wide.
    """
    if not layers:
        return
    count = model.config.get_text_config().num_hidden_layers  # type: ignore[union-attr, operator]
    stack = next(part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count)
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    for part in (embeddings, *stack[:layers]):
        part.requires_grad_(False)
        if narrow:
            part.to(torch.bfloat16)


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
            kept = tuple(name for name in shown if name.startswith(("au", "best_f1", "label_mass")))
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
