"""Fine-tune a chat model into a guard: policy in, `safe` or `unsafe` and the violated codes out.

What it does: every epoch shows each row anew (disguised, padded, under a random view of the policy; the label follows),
as token ids by the renderer that serving uses (guard.prompts), with a loss on the verdict and its end alone. TRL trains
an adapter (LoRA) or all weights on them and tokenises nothing. At every checkpoint the guard is judged as it will be
used, by the logits where its verdict begins, on a fixed sample of the dev rows; the best checkpoint is what is kept.
A run that was killed goes on from its last checkpoint when the same command is given again.

Departs from Llama Guard (Inan et al. 2023, arXiv:2312.06674), whose category dropping and shuffling it borrows: it
trains an adapter instead of all weights unless told otherwise, marks the quoted turns by control tokens, and of an
unsafe row whose categories nobody knows it learns only the word `unsafe`.

Launch:  guard train cpu-tiny --base FOLDER --data DIR     a tiny model on the CPU: a test of the pipeline
         guard train lora-1gpu                             8B in bf16 on one GPU of 80 GB
         guard train lora-24gb                             8B in 4 bits (QLoRA) on one GPU of 24 GB
         guard train lora-8gpu-fsdp                        8B, sharded over 8 GPUs
         guard train full-ft                               all weights of an 8B, sharded over 8 GPUs
         guard train custom-policy --policy my.yaml --data my.jsonl     your own policy and rows
         python -P training/recipes/sft.py CONFIG.yaml [key=value …]    this file as it stands
         accelerate launch --num_processes 8 training/recipes/sft.py CONFIG.yaml    … and its 8 processes by hand
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports its use otherwise
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # rows are rendered one by one, in workers that are forks

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from pydantic import NonNegativeInt, PositiveInt
from transformers import EarlyStoppingCallback
from trl import SFTConfig

from guard import policy, schema
from guard.data.dataset.examples import load_examples
from guard.errors import ConfigError
from guard.policy import Detail
from guard.schema import NotNegative, Share
from guard.train.augment.augmentation import Augmentation
from guard.train.augment.padding import benign
from guard.train.causal import run_folder as folder
from guard.train.causal.base import (
    Device,
    check_exportable,
    counted,
    fast_tokenizer,
    on_cuda,
    passed_through,
    prompts_of,
    spread,
    tokenizer_of,
)
from guard.train.causal.dev_eval import dev_sample
from guard.train.causal.qlora import four_bits
from guard.train.causal.rows import IGNORED, EpochRows, check_codes, count_windowed, replay_rows, training_rows
from guard.train.causal.trainer import DevSet, VerdictTrainer
from guard.train.common.identity import digests, made_of, resolved
from guard.train.common.plot import draw_history
from guard.train.common.replay import Replay, replayed
from guard.train.common.run_folder import data_digest, run_recipe, write_run

FREE = ("out", "patience")  # what a run that goes on may change
FREE_TRAINER = ("report_to", "run_name", "logging_dir", "save_total_limit", "dataloader_num_workers")


@dataclass(frozen=True)
class Config:
    """See training/configs/lora-1gpu.yaml for what each knob buys."""

    __pydantic_config__ = schema.STRICT

    recipe: str
    base: str
    policy: str
    data: str
    out: str
    columns: str | None = None  # how rows of your own are to be read, see docs/data.md
    foreign: Literal["error", "leave_out"] = "error"
    detail: Detail = "full"
    max_tokens: PositiveInt = 4096
    overlap: NonNegativeInt = 256
    least_label_mass: Share = 0.5
    device: Device = "auto"
    processes: PositiveInt = 1
    first_token_weight: NotNegative = 1.0
    checkpoint_steps: PositiveInt = 200
    dev_rows: NonNegativeInt = 1000
    patience: NonNegativeInt = 0
    replay: Replay = field(default_factory=Replay)
    qlora: bool = False
    seed: int = 7
    augmentation: Augmentation = field(default_factory=Augmentation)
    lora: Mapping[str, Any] | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)


def main(path: str, overrides: list[str]) -> None:
    config = resolved(schema.load(Path(path), Config, ConfigError, overrides))
    cuda = on_cuda(config.device, config.processes, bool(config.trainer.get("fsdp")), path)
    quantized = four_bits(config.qlora, cuda)
    if config.qlora and config.lora is None:
        raise ConfigError(f"{path}: qlora trains an adapter on a base in 4 bits; give a section `lora`")
    if config.patience and not config.dev_rows:
        raise ConfigError(f"{path}: patience={config.patience} waits for a better AUPRC; give dev_rows, or patience=0")
    spread(config.processes, path)
    out, data = Path(config.out), Path(config.data)

    # The options, before anything takes long. The rows will be ready, so TRL must neither prepare, cut nor order them.
    judging = {"eval_strategy": "steps", "eval_steps": config.checkpoint_steps, "load_best_model_at_end": True}
    arguments = passed_through(
        {"report_to": "none", "logging_steps": 10, "ddp_find_unused_parameters": False, **config.trainer},
        SFTConfig,
        "trainer",
        output_dir=str(out / "checkpoints"),
        seed=config.seed,
        use_cpu=not cuda,
        bf16=cuda,  # TRL's default, true, is refused on the CPU
        max_length=None,
        packing=False,  # a row is another one in each epoch
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="sequential",
        dataloader_persistent_workers=False,  # those would go on with the first epoch
        model_init_kwargs={"dtype": "bfloat16" if cuda and config.lora is not None else "float32", **config.model},
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        metric_for_best_model="auprc",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        disable_tqdm=True,
        **(judging if config.dev_rows else {}),
    )
    adapter = None
    if config.lora is not None:
        adapter = passed_through(
            {"target_modules": "all-linear", **config.lora}, LoraConfig, "lora", task_type="CAUSAL_LM"
        )

    # The policy and the one renderer.
    rules = policy.load(config.policy)
    tokenizer = tokenizer_of(config.base)
    prompts = prompts_of(tokenizer, config.base, config.max_tokens, config.overlap, config.detail)
    prompt = prompts[config.detail]
    family = prompt.chat.family.name
    base = check_exportable(config.base, config.model, adapter)

    # The data.
    told_by = digests(config, rules, base) | {"renderer": prompt.digest}
    data_name = data_digest(data)
    examples = load_examples(data, "train", rules, config.columns)
    if config.foreign == "error":
        check_codes(examples, rules, data)
    taught, left = training_rows(examples, rules, config.data)
    base_rules, again = replayed(config.replay)
    taught += replay_rows(again, base_rules, taught, config.replay.share)
    dev_set = None
    if config.dev_rows:
        dev = load_examples(data, "dev", rules, config.columns)
        dev_set = DevSet(dev_sample(dev, prompt, rules, config.dev_rows, config.seed, config.data), prompt)
    group = arguments.train_batch_size * arguments.world_size
    rows = EpochRows(taught, prompts, config.detail, config.augmentation, benign(examples), config.seed, group)

    # The folder.
    made = made_of(config, FREE, told_by)
    made["trainer"] = {key: value for key, value in made["trainer"].items() if key not in FREE_TRAINER}
    with arguments.main_process_first():
        checkpoint = folder.begin(out, made)
        finished = folder.is_finished(out)
    if finished:
        print(f"{out}: is finished already; next: guard export {out} BUNDLE")
        return

    # The trainer.
    stopping = [EarlyStoppingCallback(config.patience)] if config.patience and config.dev_rows else []
    trainer = VerdictTrainer(
        rows=rows,
        dev_set=dev_set,
        first_token_weight=config.first_token_weight,
        model=config.base,
        args=arguments,
        processing_class=fast_tokenizer(tokenizer, prompt),
        quantization_config=quantized,
        peft_config=adapter,
        callbacks=stopping,
    )
    master = trainer.is_world_process_zero()
    if master:
        labels = trainer.data_collator([rows[0]])["labels"][0].tolist()
        learnt = prompt.chat.tokenizer.decode([i for i in labels if i != IGNORED], skip_special_tokens=False)
        print(f"prompt family {family}; the policy takes {len(prompt.prefix_ids(rules))} tokens of {config.max_tokens}")
        print(f"kept {left.kept} of {left.read} rows ({left.foreign} not under it, {left.weightless} of no weight)")
        print(f"an epoch makes {len(rows)} draws; {count_windowed(taught, prompt)} rows need windows, a draw shows one")
        print(f"of the first row the loss sees {learnt!r}", flush=True)
        if checkpoint:
            print(f"going on from {checkpoint}", flush=True)

    # The training.
    started = time.time()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.time() - started - trainer.seconds_judging

    # The run: all of it appears at once, run.json last.
    staged = folder.stage(out)
    trainer.save_model(str(staged / ("adapter" if adapter else "model")))
    if not master:
        return
    prompt.save(staged)
    (staged / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    history = trainer.state.log_history
    draw_history(history, staged / "history.png")
    losses = [entry["loss"] for entry in history if "loss" in entry]
    model = trainer.accelerator.unwrap_model(trainer.model)
    trained, parameters = counted(model)
    write_run(
        staged,
        kind="causal",
        config=config,
        policy=rules.digest,
        data_digest=data_name,
        seed=config.seed,
        metrics={
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "best_auprc": trainer.state.best_metric,
            "best_step": trainer.state.best_global_step if dev_set else trainer.state.global_step,
            "steps": trainer.state.global_step,
            "history": history,
            "tokens_per_s": round(trainer.tokens / seconds) if trainer.tokens else None,  # none if resumed at the end
            "peak_device_mb": round(torch.cuda.max_memory_allocated() / 2**20) if cuda else None,
        },
        extra={
            "digests": told_by,
            "renderer": prompt.digest,
            "family": family,
            "rows": dataclasses.asdict(left) | {"draws": len(rows), "dev": len(dev_set.rows) if dev_set else 0},
            "parameters": parameters,
            "trained_parameters": trained,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
        },
    )
    folder.publish(out)
    print(f"{out}: done; next: guard export {out} BUNDLE")


if __name__ == "__main__":
    run_recipe(main)
