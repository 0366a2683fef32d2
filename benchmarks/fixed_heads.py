"""What reading the categories costs: a guard conditioned on their words beside one with a fixed head for each.

python benchmarks/fixed_heads.py [--data data/default] [--steps 400] [--seeds 7 8]

Both see the same rows in the same order with the same rates and heads; the fixed one has a free vector in place of each
category's words, and can know no other category. Short runs from the plain encoder: what they are compared by, not what
they reach, is the result.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from guard import policy
from guard.data.dataset.examples import load_examples
from guard.metrics.classification import auprc, best_f1
from guard.prompts.encoder import EncoderInput, category_text
from guard.train.augment.augmentation import Augmentation
from guard.train.augment.padding import benign
from guard.train.common.loss import loss_of
from guard.train.common.sampling import Sample, batches, one_policy, samples
from guard.train.encoder import model as encoder
from guard.train.encoder.dev_eval import category_rows, dev_rows, worst_windows

RESULTS = Path(__file__).parent / "results" / "fixed_heads.json"
RATES = {"base": 1.2e-4, "head": 1e-3}
WARMUP, PARTIAL, MAX_TOKENS, OVERLAP = 50, 0.4, 192, 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/default"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8])
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rules = policy.load("mlcommons")
    base = encoder.base_folder("minilm")
    reader = EncoderInput.load(base / "tokenizer.json", MAX_TOKENS, OVERLAP)
    train = load_examples(given.data, "train", rules)
    dev = [example for example in load_examples(given.data, "dev", rules) if example.kind != "text"]
    judged = {kind: dev_rows([e for e in dev if e.kind == kind], reader, rules) for kind in ("prompt", "response")}
    settings, pool = one_policy(Augmentation(padding=0.0, obfuscation=0.0, injection=0.0)), benign(train)
    results: list[dict[str, Any]] = []
    for seed in given.seeds:
        made = samples(train, reader, rules, settings, seed, 0, pool)
        stream = list(itertools.islice(batches(made, 4096, 48, random.Random(seed)), given.steps))
        for fixed in (False, True):
            started = time.perf_counter()
            scores = run(base, reader, rules, stream, judged, seed, fixed)
            minutes = (time.perf_counter() - started) / 60
            results.append({"heads": "fixed" if fixed else "conditioned", "seed": seed, "minutes": minutes, **scores})
            print(json.dumps(results[-1]), flush=True)
    RESULTS.write_text(json.dumps({"steps": given.steps, "runs": results}, indent=2) + "\n", encoding="utf-8")


def run(
    base: Path,
    reader: EncoderInput,
    rules: policy.Policy,
    stream: list[list[Sample]],
    judged: dict[str, Any],
    seed: int,
    fixed: bool,
) -> dict[str, float]:
    """AUPRC and best F1 on dev after one pass over the stream."""
    torch.manual_seed(seed)
    model = encoder.from_pretrained(base)
    model.encoder.embeddings.word_embeddings.requires_grad_(False)
    free = torch.nn.Parameter(torch.randn(len(rules.codes), model.encoder.config.hidden_size))
    head = [*model.head.parameters(), *([free] if fixed else [])]
    body = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
    groups = [{"params": body, "lr": RATES["base"]}, {"params": head, "lr": RATES["head"]}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    steps = len(stream)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: min((n + 1) / WARMUP, (steps - n) / steps))
    autocast = torch.autocast("cpu", torch.bfloat16)
    words = category_rows(reader, [category_text(category) for category in rules.categories])

    def vectors(kept: list[int]) -> torch.Tensor:
        return free[kept] if fixed else model.embed(**encoder.padded([words[index] for index in kept], reader.pad))

    model.train()
    for step, batch in enumerate(stream):
        rng = random.Random(f"{seed}/{step}")
        kept = list(range(len(rules.codes)))
        if rng.random() < PARTIAL:
            kept = sorted(rng.sample(kept, rng.randint(len(kept) // 3, len(kept) - 1)))
        text = encoder.padded([sample.row for sample in batch], reader.pad)
        with autocast:
            categories = vectors(kept)
            means, states = model.encode(**text)
        logits = model.head(model.dropout(means), states, text["attention_mask"], model.dropout(categories))
        codes = [rules.codes[index] for index in kept]
        loss = loss_of(logits, [sample.item for sample in batch], codes, len(kept) == len(rules.codes), 0.2, 0.02)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([*body, *head], 1.0)
        optimiser.step()
        schedule.step()
    model.eval()
    found: dict[str, float] = {}
    with torch.no_grad(), autocast:
        categories = vectors(list(range(len(rules.codes)))).float()
    for kind, items in judged.items():
        scores = worst_windows(model, items, categories, reader.pad, contextlib.nullcontext())
        labels = np.array([item.unsafe for item in items])
        best = best_f1(labels, scores)
        found |= {f"{kind}_auprc": auprc(labels, scores) or 0.0, f"{kind}_best_f1": best.value if best else 0.0}
    return found


if __name__ == "__main__":
    main()
