"""Verdicts of an 8B model with random weights on one GPU: from cached policy keys and values, beside generating them.

    python benchmarks/gpu_score.py                             8B in bf16 on the GPU, a few minutes
    python benchmarks/gpu_score.py --shape tiny --device cpu   the whole script on a CPU, in seconds

Scoring computes the policy's keys and values once, then one forward a batch over the conversations alone, and reads the
verdict's position against the rows of the output layer that verdicts use. Generating gives the whole prompt to
`generate(max_new_tokens=8)`, as a guard is used without a scoring path. The prompt has the shipped policy's length in
full detail at four characters a token. `gemm_share` is what a forward's matrix products and attention need, over its
time and the rate at which the same GPU multiplied large matrices just before. `furthest` is the largest difference in
log-odds between the cached prefix and the whole prompt in the arithmetic that is timed, `spread` how far the log-odds
of these prompts lie apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from shapes import SHAPES, Shape, command_line, finish, heading, multiplying_rate, parsed, random_model, tell
from torch import Tensor
from transformers import DynamicCache

from guard import policy
from guard.prompts.causal import policy_text

SCRIPT = "gpu_score"
GOAL = 10  # times as many requests a second as by generating
SUFFIX = 160  # tokens of a conversation and the question about it
BATCHES = (1, 8, 16, 32, 64)
GENERATED = (1, 8, 64)
NEW_TOKENS = 8
VERDICT_ROWS = 25


class Scorer:
    """Log-odds of one row of the output layer against another, from cached keys and values."""

    def __init__(self, model: Any, prefix: Tensor) -> None:
        self.model = model
        self.rows = model.get_output_embeddings().weight[:VERDICT_ROWS]
        kept = model.get_decoder()(input_ids=prefix, use_cache=True).past_key_values
        self.kept = [(layer.keys, layer.values) for layer in kept.layers]

    def __call__(self, suffixes: Tensor) -> Tensor:
        """float32 [batch]; suffixes: ids [batch, tokens]."""
        count = len(suffixes)
        cache = DynamicCache(ddp_cache_data=[tuple(part.expand(count, -1, -1, -1) for part in kv) for kv in self.kept])
        states = self.model.get_decoder()(input_ids=suffixes, past_key_values=cache, use_cache=True).last_hidden_state
        logits = (states[:, -1] @ self.rows.T).float()
        return logits[:, 1] - logits[:, 0]


def work(shape: Shape, batch: int, past: int, tokens: int) -> float:
    """Floating-point operations of one forward: linear layers and attention, without embedding and output layer."""
    c = shape.config
    width = c["hidden_size"] // c["num_attention_heads"]
    projections = c["hidden_size"] * (2 * c["hidden_size"] + 2 * c["num_key_value_heads"] * width)
    linear = c["num_hidden_layers"] * (projections + 3 * c["hidden_size"] * c["intermediate_size"])
    seen = tokens * past + tokens * (tokens + 1) / 2
    return batch * (2 * linear * tokens + 4 * c["num_hidden_layers"] * c["hidden_size"] * seen)


def seconds(call: Callable[[], object], device: str, rounds: int) -> float:
    """Median time of a call after two that warm up."""
    taken = []
    for _ in range(rounds + 2):
        finish(device)
        started = time.perf_counter()
        call()
        finish(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[2:])


def generate(model: Any, prompts: Tensor) -> Any:
    return model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,  # random weights end when they like
        do_sample=False,
        pad_token_id=0,
    )


@torch.inference_mode()
def measured(shape: Shape, device: str, rounds: int) -> dict[str, Any]:
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    rate = multiplying_rate(shape, device, dtype)
    model = random_model(shape, device, dtype).eval()
    past = (len(policy_text(policy.load("mlcommons"))) // 4) // shape.shrink
    tokens = max(SUFFIX // shape.shrink, 8)
    ids = torch.randint(1, shape.config["vocab_size"], (max(BATCHES), past + tokens), device=device)
    ids[:, :past] = ids[:1, :past]
    scorer = Scorer(model, ids[:1, :past])
    few = ids[:4]
    read = (model.get_decoder()(input_ids=few).last_hidden_state[:, -1] @ scorer.rows.T).float()
    whole = read[:, 1] - read[:, 0]
    cached: dict[str, Any] = {}
    for batch in BATCHES:
        taken = seconds(lambda batch=batch: scorer(ids[:batch, past:]), device, rounds)  # type: ignore[misc]
        cached[str(batch)] = {
            "p50_ms": round(1000 * taken, 2),
            "requests_per_s": round(batch / taken, 1),
            "gemm_share": round(work(shape, batch, past, tokens) / taken / rate, 4),
        }
    generated: dict[str, Any] = {}
    for batch in GENERATED:
        taken = seconds(lambda batch=batch: generate(model, ids[:batch]), device, max(rounds // 4, 2))  # type: ignore[misc]
        generated[str(batch)] = {"p50_ms": round(1000 * taken, 2), "requests_per_s": round(batch / taken, 1)}
    return {
        "multiplying_tflops": round(rate / 1e12, 3),
        "prefix_tokens": past,
        "suffix_tokens": tokens,
        "furthest": float(f"{(scorer(few[:, past:]) - whole).abs().max():.3g}"),
        "spread": float(f"{whole.max() - whole.min():.3g}"),
        "prefix_cached": cached,
        "generate": generated,
        "times_generate": {
            batch: round(cached[batch]["requests_per_s"] / each["requests_per_s"], 1)
            for batch, each in generated.items()
        },
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None,
    }


def main() -> None:
    parser = command_line(__doc__, SCRIPT)
    parser.add_argument("--rounds", type=int, default=20)
    given = parsed(parser)
    result = {
        **heading(SCRIPT, given, "torch", "transformers"),
        "goal_times_generate": GOAL,
        **measured(SHAPES[given.shape], given.device, given.rounds),
    }
    tell(result, SCRIPT, given)


if __name__ == "__main__":
    main()
