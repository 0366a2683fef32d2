"""A base model asked to judge as it is: the row beside which a fine-tuned guard shows what its training bought.

No token is generated: a verdict is the logits of `safe` and `unsafe` where the answer begins, in fp32, policy and
examples computed once. What a prompted model's verdicts hang on besides the text is measured with them: the wording of
the question, and whether the same text is scored again alone or in a batch.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from guard.conversation import Example
from guard.errors import DataError
from guard.metrics.classification import auprc, auroc
from guard.policy import Detail, Policy
from guard.prompts.prompt import check_words
from guard.prompts.prompted import Judging, PromptedTemplate, Shot, words
from guard.prompts.released import ReleasedPrompt
from guard.prompts.tokenizer import load_tokenizer
from guard.prompts.window import Ids
from guard.train.causal.base import tokenizer_of
from guard.train.causal.checkpoint import loadable
from guard.train.causal.dev_eval import score_verdicts
from guard.train.causal.step import cached

AGAIN = 16  # rows that are scored a second time, as a batch
OVERLAP = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """What a base is asked: under which policy, in what detail, in windows of `max_tokens`."""

    policy: Policy
    detail: Detail = "names"
    max_tokens: int = 2048


def sample(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """A random choice of so many rows, or all of them. DataError if they are not of both labels."""
    rows = random.Random(seed).sample(list(examples), min(count, len(examples)))
    if len({row.label for row in rows}) < 2:
        raise DataError(f"the {len(rows)} rows to judge are not of both labels; take more, or another split")
    return rows


def measure(base: str, rows: Sequence[Example], asked: Asked, shots: Sequence[Shot] = ()) -> dict[str, Any]:
    """What the base makes of the rows, by each wording of the question.

    auprc, auroc of the rows and of each kind among them (first wording); label_mass: mean and least p(safe) +
    p(unsafe); repeat_spread: largest |dp| of rows that are scored again in a batch; paraphrase_spread: mean and largest
    standard deviation of a row's p(unsafe) over the wordings; ms_per_text, and cpu_ms_per_text of all cores, policy and
    examples computed before. BundleError if the base cannot be asked.
    """
    where = loadable(base)
    tokenizer_path = tokenizer_of(where)
    tokenizer = load_tokenizer(tokenizer_path)
    model: Any = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32)
    model.eval()
    labels = np.array([row.label == "unsafe" for row in rows])
    kinds = np.array([row.kind for row in rows])
    by_wording, odds_of, report = [], [], {}
    for wording, question in enumerate(words().questions):
        template = PromptedTemplate.of(tokenizer, tokenizer_path.parent, Judging(wording, tuple(shots)))
        prompt = ReleasedPrompt.of(template, tokenizer, tokenizer_path.parent, asked.max_tokens, OVERLAP, asked.detail)
        check_words(prompt, tokenizer_path)
        prefix = prompt.prefix_ids(asked.policy)
        windows = [[window.ids for window in prompt.tokenize(row.conversation, asked.policy).windows] for row in rows]
        with torch.no_grad():
            past = cached(model, torch.tensor([prefix]), 1)
        started, busy = time.perf_counter(), time.process_time()
        odds, mass = [], []
        for of_row in windows:
            found = [_score(model, past, len(prefix), ids, prompt) for ids in of_row]
            odds.append(max(z for z, _ in found))  # the worst window counts
            mass.append(min(m for _, m in found))
        ms = (time.perf_counter() - started) * 1e3 / len(rows)
        cpu_ms = (time.process_time() - busy) * 1e3 / len(rows)
        z = np.array(odds)
        odds_of.append(z)
        areas = {"auprc": auprc(labels, z), "auroc": auroc(labels, z)}
        by_wording.append({"question": question, **areas, "label_mass": float(np.mean(mass)), "ms_per_text": ms})
        if wording:
            continue
        single = [index for index, of_row in enumerate(windows) if len(of_row) == 1][:AGAIN]
        again = score_verdicts(model, prefix, [windows[index][0] for index in single], prompt, model.device)
        report = {
            **areas,
            **{
                f"{name}_{kind}": area(labels[kinds == kind], z[kinds == kind])
                for kind in sorted(set(kinds.tolist()))
                for name, area in (("auprc", auprc), ("auroc", auroc))
            },
            "label_mass": {"mean": float(np.mean(mass)), "least": float(np.min(mass))},
            "repeat_spread": float(np.abs(_p(z[single]) - _p(again.odds)).max()),
            "ms_per_text": ms,
            "cpu_ms_per_text": cpu_ms,
            "prefix_tokens": len(prefix),
            "tokens_per_text": sum(len(ids) for of_row in windows for ids in of_row) / len(rows),
        }
    deviation = np.std([_p(z) for z in odds_of], axis=0)
    return {
        "base": base,
        "policy": asked.policy.id,
        "detail": asked.detail,
        "shots": len(shots),
        "rows": len(rows),
        "unsafe": int(labels.sum()),
        "kinds": {kind: int((kinds == kind).sum()) for kind in sorted(set(kinds.tolist()))},
        **report,
        "paraphrase_spread": {"mean": float(deviation.mean()), "most": float(deviation.max())},
        "wordings": by_wording,
    }


def _score(model: Any, past: Any, before: int, ids: Ids, prompt: ReleasedPrompt) -> tuple[float, float]:
    """log p(unsafe) - log p(safe) after a window, and p(safe) + p(unsafe); `past` holds `before` tokens and stays."""
    with torch.no_grad():
        position = torch.arange(before, before + len(ids))[None]
        found = model(
            input_ids=torch.tensor([ids]), position_ids=position, past_key_values=copy.deepcopy(past), logits_to_keep=1
        )
    log_probs = torch.log_softmax(found.logits[0, -1].double(), -1)
    safe, unsafe = log_probs[prompt.safe[0]], log_probs[prompt.unsafe[0]]
    return float(unsafe - safe), float(safe.exp() + unsafe.exp())


def _p(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))
