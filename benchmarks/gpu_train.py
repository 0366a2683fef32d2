"""LoRA training of an 8B model with random weights on one GPU: tokens/s, MFU and memory, beside a plain TRL run.

    python benchmarks/gpu_train.py                             8B in bf16 on the GPU, about ten minutes
    python benchmarks/gpu_train.py --shape tiny --device cpu   the whole script on a CPU, in a minute

`config` trains with the options of training/configs/lora-1gpu.yaml on rows ordered by length, as the recipe does;
`plain` trains on the same rows in random order with TRL's defaults and peft's default LoRA. Rows have the lengths that
the shipped policy's prompt has, at four characters a token, with the shares of its details that the config asks for.
MFU is 4 · parameters · tokens/s (forward, and backward through frozen weights; nothing for what is computed again) over
the rate at which the same GPU multiplied large matrices just before. Padding is not counted as tokens.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from shapes import (
    SHAPES,
    Shape,
    command_line,
    finish,
    heading,
    multiplying_rate,
    parameters,
    parsed,
    random_model,
    tell,
)
from texts import made_up
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer

from guard import document, policy
from guard.assets import asset
from guard.prompts.causal import policy_text
from guard.train.causal.rows import IGNORED

SCRIPT = "gpu_train"
CONFIG = "training/configs/lora-1gpu.yaml"
GOAL = 0.45  # MFU
VERDICT = 4  # tokens that the loss sees
ROWS = 512
# What a benchmark of a few steps sets itself, whatever the config says.
OURS = {
    "report_to": "none",
    "logging_steps": 1,
    "save_strategy": "no",
    "max_length": None,
    "packing": False,
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "disable_tqdm": True,
    "seed": 7,
}
LEFT_OUT = {"num_train_epochs", "save_total_limit", "dataloader_num_workers", "per_device_eval_batch_size"}


class Marks(TrainerCallback):
    """(seconds, tokens so far) at the end of every step."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.found: list[tuple[float, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "num_tokens" in logs and "train_runtime" not in logs:
            finish(self.device)
            self.found.append((time.perf_counter(), logs["num_tokens"]))


def lengths(plain: dict[str, Any], shape: Shape) -> list[int]:
    """Tokens of each row: the policy in the detail that it is told in, and a text."""
    rules, shares, pick = policy.load(plain["policy"]), plain["augmentation"], random.Random(7)
    details = ("names", "short", "full")
    told = {detail: len(policy_text(rules, detail)) // 4 for detail in details}
    weights = [shares["names_only"], shares["short"], 1 - shares["names_only"] - shares["short"]]
    found = []
    for text in made_up(ROWS, 1500):
        detail = pick.choices(details, weights)[0]
        found.append(min(told[detail] + len(text) // 4 + 64, plain["max_tokens"]) // shape.shrink + VERDICT)
    return found


def dataset(sizes: Sequence[int], vocabulary: int) -> Dataset:
    pick = torch.Generator().manual_seed(7)
    rows = [torch.randint(1, vocabulary, (size,), generator=pick).tolist() for size in sizes]
    return Dataset.from_list(
        [{"input_ids": row, "labels": [IGNORED] * (len(row) - VERDICT) + row[-VERDICT:]} for row in rows]
    )


def by_length(sizes: Sequence[int], batch: int) -> list[int]:
    """Batches of near lengths, in random order."""
    order = sorted(sizes)
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    random.Random(7).shuffle(batches)
    return [size for each in batches for size in each]


def measured(
    shape: Shape, given: argparse.Namespace, rows: Dataset, options: dict[str, Any], lora: dict[str, Any], rate: float
) -> dict[str, Any]:
    """Trains for a few steps; the first `given.warm` are not timed."""
    cuda = given.device == "cuda"
    model = random_model(shape, given.device, torch.bfloat16 if cuda else torch.float32)
    size = parameters(model)
    marks = Marks(given.device)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(output_dir=folder, max_steps=given.steps, use_cpu=not cuda, bf16=cuda, **(options | OURS))
        words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>"),
            peft_config=LoraConfig(task_type="CAUSAL_LM", **lora),
            callbacks=[marks],
        )
        try:
            trainer.train()
        except torch.OutOfMemoryError:
            return {"failed": "out of GPU memory"}
        finally:
            del trainer, model
            gc.collect()
    (first, before), (last, after) = marks.found[given.warm - 1], marks.found[-1]
    speed = (after - before) / (last - first)
    peak = (
        torch.cuda.max_memory_allocated() / 2**30
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    )
    return {
        "batch": arguments.per_device_train_batch_size,
        "accumulation": arguments.gradient_accumulation_steps,
        "steps_timed": len(marks.found) - given.warm,
        "tokens_per_step": round((after - before) / (len(marks.found) - given.warm)),
        "tokens_per_s": round(speed, 1),
        "mfu": round(4 * size * speed / rate, 4),
        "peak_gib": round(peak, 2),
    }


def main() -> None:
    parser = command_line(__doc__, SCRIPT)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warm", type=int, default=2, help="steps before the clock starts")
    given = parsed(parser)
    if not 0 < given.warm < given.steps:
        parser.error(f"--warm {given.warm} must be at least 1 and less than --steps {given.steps}")
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    shape = SHAPES[given.shape]
    plain, _ = document.parse(asset(CONFIG).read_text(encoding="utf-8"), CONFIG)
    rate = multiplying_rate(shape, given.device, torch.bfloat16 if given.device == "cuda" else torch.float32)
    sizes = lengths(plain, shape)
    vocabulary = shape.config["vocab_size"]
    options = {key: value for key, value in plain["trainer"].items() if key not in LEFT_OUT}
    options["per_device_train_batch_size"] = plain["batch_rows"]
    grouped = dataset(by_length(sizes, plain["batch_rows"]), vocabulary)
    result = {
        **heading(SCRIPT, given, "torch", "transformers", "trl", "peft"),
        "multiplying_tflops": round(rate / 1e12, 3),
        "row_tokens": {"median": sorted(sizes)[len(sizes) // 2], "longest": max(sizes)},
        "goal_mfu": GOAL,
        "config": measured(
            shape, given, grouped, {"train_sampling_strategy": "sequential", **options}, dict(plain["lora"]), rate
        ),
    }
    if given.device == "cuda":
        torch.cuda.empty_cache()
    result["plain"] = measured(shape, given, dataset(sizes, vocabulary), {}, {}, rate)
    tell(result, SCRIPT, given)


if __name__ == "__main__":
    main()
