"""What each step of a causal training costs a CPU: python benchmarks/cpu_train.py BASE DATA [GROUPS]

The same rows go through the model in each form, forwards and backwards, in one process and one thread. CPU seconds are
counted, as other work on the machine disturbs them less. `whole prompts` is what the recipe did before groups: batches
of 8 rows, each with the policy and, behind the text, a question of QUESTION tokens that the policy's turn holds now.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from guard import policy
from guard.data.dataset.examples import load_examples
from guard.train.augment.augmentation import Augmentation
from guard.train.augment.padding import Pool
from guard.train.causal.base import prompts_of, tokenizer_of
from guard.train.causal.group import Group, Sizes
from guard.train.causal.groups import EpochBatches
from guard.train.causal.rows import training_rows
from guard.train.causal.step import tensors, verdict_loss
from guard.train.causal.trainer import freeze

QUESTION = 71
ROWS = 1000


def groups_of(base: str, data: Path, count: int, detail: Any) -> list[Group]:
    rules = policy.load("mlcommons")
    taught, _ = training_rows(load_examples(data, "train", rules)[:ROWS], rules, str(data))
    prompts = prompts_of(tokenizer_of(base), base, 1024, 64, detail)
    settings = Augmentation(names_only=0, short=1, drop=0, padding=0, history=0)
    made = EpochBatches(taught, prompts, detail, settings, Pool(), 7, Sizes(32, 32, 8192, 176))
    return [group for batch in made.chunk(0) for group in batch if len(group.rows) == 32][:count]


def in_eights(group: Group, question: int = 0) -> list[Group]:
    """Eight rows at a time, each with so many tokens of the prefix behind its text and not before."""
    rows = [((*asked, *group.prefix[:question]), verdict) for asked, verdict in group.rows]
    return [Group(group.prefix[question:], tuple(rows[at : at + 8])) for at in range(0, len(rows), 8)]


def seconds(model: Any, groups: list[Group], share: bool) -> float:
    backbone = (model.get_base_model() if hasattr(model, "peft_config") else model).base_model
    model.train()
    started = time.process_time()
    for group in groups:
        verdict_loss(model, backbone, tensors(group, 0), share, 1.0).tokens.mean().backward()
        model.zero_grad()
    return time.process_time() - started


FORMS = (  # name, rows as before, shared prefix, frozen layers, rank of LoRA
    ("whole prompts, all weights", True, False, 0, 0),
    ("task before the text, whole prompts", False, False, 0, 0),
    ("shared prefix, all weights", False, True, 0, 0),
    ("shared prefix, 10 layers frozen", False, True, 10, 0),
    ("shared prefix, 15 layers frozen", False, True, 15, 0),
    ("shared prefix, LoRA r16", False, True, 0, 16),
    ("shared prefix, LoRA r16, 10 layers frozen", False, True, 10, 16),
)


def measured(plain: Any, groups: list[Group], form: tuple[str, bool, bool, int, int]) -> dict[str, Any]:
    """Rows and tokens a CPU second; tokens as this form computes them, and as whole prompts have them."""
    name, old, share, frozen, rank = form
    model = copy.deepcopy(plain)
    if rank:
        model = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    freeze(model, frozen)
    before = [piece for group in groups for piece in in_eights(group, QUESTION)]
    whole_prompts = before if old else [piece for group in groups for piece in in_eights(group)]
    shown = groups if share else whole_prompts
    whole = sum(len(g.prefix) + len(asked) + len(verdict) for g in before for asked, verdict in g.rows)
    seen = sum(g.tokens if share else g.tokens + len(g.prefix) * (len(g.rows) - 1) for g in shown)
    took = seconds(model, shown, share)
    rates = {"rows": sum(len(group.rows) for group in groups), "tokens": seen, "whole_prompt_tokens": whole}
    return {"form": name, "seconds": round(took, 1), **{f"{key}_per_s": round(n / took, 2) for key, n in rates.items()}}


def main(base: str, data: str, count: str = "1") -> None:
    torch.set_num_threads(1)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    plain.get_input_embeddings().weight.requires_grad_(False)
    for detail in ("names", "short"):
        groups = groups_of(base, Path(data), int(count), detail)
        for form in FORMS:
            print(json.dumps({"detail": detail, **measured(plain, groups, form)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
