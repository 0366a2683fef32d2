"""Fine-tune a chat model into a guard with LoRA: policy in, `safe` or `unsafe` and the violated codes out.

What it does: every row becomes token ids by the renderer that serving uses (guard.prompt), with a loss on the verdict
alone; TRL trains an adapter on them and tokenises nothing. On a share of the rows a random part of the policy is in
force and the label follows it, so that the guard obeys the policy that it is given.

Departs from Llama Guard (Inan et al. 2023, arXiv:2312.06674), whose category dropping it borrows: it trains an adapter
instead of all weights, marks the quoted turns by control tokens, leaves the codes' order and names alone, and of an
unsafe row whose categories nobody knows it learns only the word `unsafe`.

Launch:  guard train cpu-tiny --base FOLDER --data DIR          a tiny model on the CPU: a test of the pipeline
         guard train lora-1gpu                                  8B in bf16 on one GPU of 80 GB
         guard train lora-24gb                                  8B in 4 bits (QLoRA) on one GPU of 24 GB
         accelerate launch --num_processes 8 training/recipes/sft.py training/configs/lora-1gpu.yaml    8 GPUs
         python -P training/recipes/sft.py CONFIG.yaml [key=value …]        this file as it stands
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports its use otherwise

import dataclasses
import difflib
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig, PreTrainedTokenizerFast
from transformers.utils import cached_file
from trl import SFTConfig, SFTTrainer

from guard import policy, schema
from guard.conversation import Example
from guard.data.examples import load_examples
from guard.errors import ConfigError, DataError, need
from guard.policy import Detail, Policy
from guard.prompt import IGNORED, TEMPLATE_DIGEST, Prompt
from guard.train.run import data_digest, run_recipe, write_run


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
    detail: Detail = "full"
    max_tokens: int = 4096
    overlap: int = 256
    partial_policy: float = 0.3
    least_label_mass: float = 0.5
    qlora: bool = False
    seed: int = 7
    lora: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)


def passed_through(options: Mapping[str, Any], cls: type, section: str, **ours: Any) -> Any:
    """A `cls` of the options of a section and of `ours`, which may not be given. Unknown options are errors."""
    allowed = {known.name for known in dataclasses.fields(cls) if known.init} - set(ours)
    for key in options:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            why = "is set by this recipe" if key in ours else f"is no option of {cls.__name__}"
            raise ConfigError(f"{section}.{key} {why}{f'; did you mean {near[0]}?' if near else ''}")
    try:
        return cls(**options, **ours)
    except (TypeError, ValueError) as problem:
        raise ConfigError(f"{section}: {cls.__name__} refuses it: {problem}") from None


def in_force(rules: Policy, example: Example, rng: random.Random, share: float) -> Policy:
    """The policy, or on a `share` of the rows a random part of it.

    A row of unknown category stays with the whole: only that is certain to be violated.
    """
    unknown = example.label == "unsafe" and not example.categories
    if unknown or len(rules.codes) == 1 or rng.random() >= share:
        return rules
    kept = rng.sample(rules.codes, rng.randint(1, len(rules.codes) - 1))
    return rules.without([code for code in rules.codes if code not in kept])


def render(examples: Sequence[Example], prompt: Prompt, rules: Policy, config: Config) -> Dataset:
    """input_ids and labels of every window; tells how many rows and windows there are.

    A row of weight 0.3 is taken with that probability, since TRL weighs all rows alike.
    """
    rng = random.Random(config.seed)
    inputs, labels, foreign, lighter, longer = [], [], 0, 0, 0
    for example in examples:
        if example.label == "unsafe" and example.categories and not example.categories & set(rules.codes):
            foreign += 1  # violates only what this policy does not have: neither safe nor unsafe here
            continue
        repeats = int(example.weight) + (rng.random() < example.weight % 1)
        lighter += repeats == 0
        for _ in range(repeats):
            rows = prompt.supervised(example, in_force(rules, example, rng, config.partial_policy))
            longer += len(rows) > 1
            inputs += [np.array(ids, np.int32) for ids, _ in rows]
            labels += [np.array(learnt, np.int32) for _, learnt in rows]
    kept = len(examples) - foreign - lighter
    print(
        f"kept {kept} of {len(examples)} rows as {len(inputs)} windows of at most {config.max_tokens} tokens; "
        f"{longer} rows take several; left out: {foreign} violate only other policies, {lighter} by their weight",
        flush=True,
    )
    if not inputs:
        raise DataError(f"{config.data}: no row is left to train on")
    return Dataset.from_dict({"input_ids": inputs, "labels": labels})


def four_bits(wanted: bool, cuda: bool) -> BitsAndBytesConfig | None:
    """QLoRA's storage of the base (Dettmers et al. 2023, arXiv:2305.14314), if it is wanted and can be had."""
    if not wanted:
        return None
    if not cuda:
        raise ConfigError("qlora: needs a CUDA device, and there is none; set qlora=false")
    need("bitsandbytes", "qlora")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def main(path: str, overrides: list[str]) -> None:
    config = schema.load(Path(path), Config, ConfigError, overrides)
    cuda = torch.cuda.is_available()
    out = Path(config.out)

    # The options, before anything takes long. The rows will be ready, so TRL must neither prepare nor cut them.
    arguments = passed_through(
        {"report_to": "none", "save_strategy": "no", "logging_steps": 10, **config.trainer},
        SFTConfig,
        "trainer",
        output_dir=str(out / "checkpoints"),
        seed=config.seed,
        use_cpu=not cuda,
        bf16=cuda,  # TRL's default, true, is refused on the CPU
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        model_init_kwargs={"dtype": "bfloat16" if cuda else "float32"},
    )
    adapter = passed_through(config.lora, LoraConfig, "lora", task_type="CAUSAL_LM")
    quantized = four_bits(config.qlora, cuda)

    # The policy and the one renderer.
    rules = policy.load(config.policy)
    tokenizer = Path(str(cached_file(config.base, "tokenizer.json")))
    prompt = Prompt.load(tokenizer, config.max_tokens, config.overlap, config.detail)
    family = prompt.chat.family
    print(f"prompt family {family.name}; the policy takes {len(prompt.prefix_ids(rules))} tokens", flush=True)

    # The data.
    train = render(load_examples(Path(config.data), "train", rules, config.columns), prompt, rules, config)

    # The trainer.
    trainer = SFTTrainer(
        model=config.base,
        args=arguments,
        train_dataset=train,
        processing_class=PreTrainedTokenizerFast(
            tokenizer_file=str(tokenizer), eos_token=family.end, pad_token=family.end
        ),
        quantization_config=quantized,
        peft_config=adapter,
    )
    labels = trainer.data_collator([trainer.train_dataset[0]])["labels"][0].tolist()
    learnt = prompt.chat.tokenizer.decode([index for index in labels if index != IGNORED], skip_special_tokens=False)
    print(f"of the first row the loss sees {learnt!r}", flush=True)

    # The training.
    started = time.time()
    trainer.train(resume_from_checkpoint=any((out / "checkpoints").glob("checkpoint-*")) or None)
    seconds = time.time() - started
    trainer.save_model(str(out / "adapter"))
    if not trainer.is_world_process_zero():
        return
    shutil.copyfile(tokenizer, out / "tokenizer.json")
    (out / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    losses = [entry["loss"] for entry in history]
    tokens = history[-1]["num_tokens"] if history else 0
    write_run(
        out,
        kind="causal",
        config=config,
        policy=rules.digest,
        data_digest=data_digest(Path(config.data)),
        seed=config.seed,
        metrics={
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "history": history,
            "tokens_per_s": round(tokens / seconds),
            "peak_device_mb": round(torch.cuda.max_memory_allocated() / 2**20) if cuda else None,
        },
        extra={"renderer": TEMPLATE_DIGEST, "family": family.name, "windows": len(train)},
    )
    print(f"{out}: done; next: guard export {out} BUNDLE")


if __name__ == "__main__":
    run_recipe(main)
