"""A stage of training: an adapter on the base, or a head, by the trainer that the table of systems names."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
    PrinterCallback,
    ProgressCallback,
)

from guard.errors import DataError
from guard.jobs.cache import Cache
from guard.reward.base import HEAD, WEIGHTS, Base
from guard.reward.gate import STEPS, fit_attributes, fit_gate
from guard.reward.heads import CriticHead, GatedHead, load_head, save_head
from guard.reward.judging import judge, reviews
from guard.reward.row import RewardRow
from guard.reward.run import COST, RewardRun
from guard.reward.supervision import Item
from guard.reward.systems import Stage
from guard.reward.trainers import KINDS, READY, dataset
from guard.train.causal import base as bases
from guard.train.causal.run_folder import is_whole
from guard.train.causal.trainer import Progress

WRITTEN = "written.sqlite"  # what the model wrote before it learnt
LEARNT = "learnt"


def fit_stage(run: RewardRun, stage: Stage, before: Path | None) -> Path | None:
    """The folder of what a stage learnt, an adapter or a head; it begins as that of the stage before.

    Without rows for an optional stage it is that one. DataError if nothing can be learnt from the rows.
    """
    folder = run.stage_folder(stage)
    learnt = folder / LEARNT
    if learnt.is_dir():
        print(f"{stage.name}: is finished already", flush=True)  # noqa: T201
        return learnt
    rows: Sequence[RewardRow] = run.rows(stage)
    if not rows:
        print(f"{stage.name}: left out, no row has {', '.join(stage.needs)}", flush=True)  # noqa: T201
        return before
    folder.mkdir(parents=True, exist_ok=True)
    began, resumed = time.perf_counter(), any(folder.iterdir())
    rows, judgements = _sampled(run, stage, before, rows, folder)
    items = run.items(stage, rows, judgements)
    if stage.samples and before is not None and len(items) < 2:
        told = "the model so far judges the rows as it should, and there is nothing to contrast"
        print(f"{stage.name}: left out, {told}", flush=True)  # noqa: T201
        return before
    if len(items) < 2:
        raise DataError(f"{stage.name}: {len(items)} items cannot be learnt from; give more rows, or more epochs")
    made = folder / f".{LEARNT}"
    shutil.rmtree(made, ignore_errors=True)
    if stage.trainer in ("ridge", "gate"):
        made.mkdir()
        save_head(_fit_head(run, stage, before, items), made)
        steps = 0
    else:
        steps = _fit_adapter(run, stage, before, items, folder, made)
    cost = {"rows": len(rows), "items": len(items), "steps": steps, "seconds": round(time.perf_counter() - began, 1)}
    (folder / COST).write_text(json.dumps(cost | {"resumed": resumed}) + "\n")
    made.rename(learnt)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return learnt


def _fit_head(run: RewardRun, stage: Stage, before: Path | None, items: Sequence[Item]) -> GatedHead:
    """Of a base that stays as it is: attributes, or the gate over those of the stage before."""
    base = Base.open(run.base, run.prompts.pad)
    if stage.trainer == "ridge":
        return fit_attributes(base, run.attributes, items, run.config.seed)
    assert before is not None
    head = load_head(before, base.width)
    assert isinstance(head, GatedHead)
    steps = {**run.config.trainer, **run.config.stages.get(stage.name, {})}.get("max_steps", STEPS)
    return fit_gate(base, head, items, run.config.seed, int(steps))


def _fit_adapter(
    run: RewardRun, stage: Stage, before: Path | None, items: Sequence[Item], folder: Path, made: Path
) -> int:
    """The steps that it took."""
    trainer = _trainer(run, stage, before, items, folder)
    trainer.train(resume_from_checkpoint=_checkpoint(folder))
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(made, selected_adapters=["default"])
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if losses:
        print(f"{stage.name}: loss {losses[0]:.3f} to {losses[-1]:.3f}", flush=True)  # noqa: T201
    return int(trainer.state.global_step)


def _sampled(
    run: RewardRun, stage: Stage, before: Path | None, rows: Sequence[RewardRow], folder: Path
) -> tuple[Sequence[RewardRow], Mapping[str, Any]]:
    """The rows, and what the model so far writes about them, kept in the stage's folder. What cannot be used is dropped
    and counted."""
    if not stage.samples:
        return rows, {}
    name = "before" if before is not None else None

    @functools.cache
    def base() -> Base:
        opened = Base.open(run.base, run.prompts.pad)
        if name is not None and before is not None:
            opened.attach(name, before)
        return opened

    with Cache(folder / WRITTEN) as kept:
        if stage.samples == "reviews":
            found = reviews(base, name, run.prompts, rows, kept)
            print(  # noqa: T201
                f"{stage.name}: wrote reviews of {len(rows)} pairs, {len(rows) - len(found)} dropped as empty",
                flush=True,
            )
            return found, {}
        config = run.config
        judgements, counts = judge(
            base, name, run.supervision(), rows, config.judgements, config.seed, kept, config.temperature
        )
    print(f"{stage.name}: wrote judgements, {dict(sorted(counts.items()))}", flush=True)  # noqa: T201
    return rows, judgements


def _trainer(run: RewardRun, stage: Stage, before: Path | None, items: Sequence[Item], folder: Path) -> Any:
    kind, config = KINDS[stage.trainer], run.config
    arguments = bases.passed_through(
        {
            "report_to": "none",
            "logging_steps": 10,
            "activation_checkpointing": False,
            **stage.settings,
            **config.trainer,
            **{key: value for key, value in config.stages.get(stage.name, {}).items() if key != "epochs"},
        },
        kind.arguments,
        "trainer",
        output_dir=str(folder / "checkpoints"),
        seed=config.seed,
        use_cpu=not run.cuda,
        bf16=run.bf16,
        num_train_epochs=1,  # the rows are those of all epochs
        train_sampling_strategy="sequential",
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        disable_tqdm=True,
        **READY[stage.trainer],
    )
    options = {"target_modules": "all-linear", "r": 16, "lora_alpha": 32, **config.lora}
    if kind.head or stage.trainer == "critic":
        options["modules_to_save"] = [HEAD]
    if stage.trainer == "critic":
        options["exclude_modules"] = rf".*\.{HEAD}\..*"
    task = "SEQ_CLS" if kind.head else "CAUSAL_LM"
    adapter = bases.passed_through(options, LoraConfig, "lora", task_type=task)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(run.tokenizer),
        eos_token=run.prompts.chat.family.end,
        pad_token=run.prompts.chat.tokenizer.id_to_token(run.prompts.pad),
    )
    if stage.trainer == "kto" and len(items) % arguments.per_device_train_batch_size == 1:
        items = items[:-1]  # KTO compares a completion with the others of its batch
    trainer = kind.trainer(
        model=_model(run, stage, before, adapter),
        args=arguments,
        train_dataset=dataset(stage.trainer, items),
        processing_class=tokenizer,
    )
    for silent in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(silent)
    trainer.add_callback(Progress())
    return trainer


def _model(run: RewardRun, stage: Stage, before: Path | None, adapter: LoraConfig) -> Any:
    """The base with an adapter that learns: a new one, or the one of the stage before."""
    kind = KINDS[stage.trainer]
    options = {"dtype": "bfloat16" if run.bf16 else "float32", **run.config.model}
    if kind.head:
        count = len(run.attributes) if stage.trainer == "attributes" else 1
        model = AutoModelForSequenceClassification.from_pretrained(run.base, num_labels=count, **options)
    else:
        model = AutoModelForCausalLM.from_pretrained(run.base, **options)
    if stage.trainer == "critic":
        model.score = CriticHead(model.config.get_text_config().hidden_size, ("reward",))
    elif before is not None:
        return PeftModel.from_pretrained(model, before, is_trainable=True)
    adapted = get_peft_model(model, adapter)
    if before is not None:  # which has no head
        weights = get_peft_model_state_dict(adapted) | load_file(before / WEIGHTS)
        set_peft_model_state_dict(adapted, weights)
    return adapted


def _checkpoint(folder: Path) -> str | None:
    """The last whole checkpoint of a killed stage."""
    whole = [path for path in (folder / "checkpoints").glob("checkpoint-*") if is_whole(path)]
    last = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return None if last is None else str(last)
