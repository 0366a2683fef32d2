"""`guard check --file` against a plain transformers loop over the same weights, in one run on one machine.

Both read the same made-up texts of mixed lengths, all different, and answer each with p(unsafe). The plain loop is
what most people write first: one text at a time, torch in fp32, no windows (cut at 512 tokens). Whole processes are
timed too, because that is what a person waits for: `guard check --file` with its start, the loop with its imports.

    python benchmarks/check_throughput.py [--model BUNDLE] [--items N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from texts import made_up

RESULTS = Path(__file__).parent / "results" / "check_throughput.json"
ROUNDS = 3
LONGEST = 350  # words, so that the plain loop cuts none


def plain_loop(bundle: Path, texts: list[str]) -> tuple[list[float], float]:
    """p(unsafe) of each text and the seconds that the loop took, loading apart."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import PreTrainedTokenizerFast

    from guard import policy
    from guard.prompts.encoder import category_text
    from guard.train.encoder import model as encoder

    model = encoder.load(bundle).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(bundle / "tokenizer.json"), pad_token="[PAD]")
    rules = policy.load(bundle / "policy.yaml")
    with torch.inference_mode():
        vectors = model.embed(**_tokens(tokenizer, "[unused5]", [category_text(c) for c in rules.categories]))
        started = time.perf_counter()
        found = []
        for text in texts:
            logits = model(**_tokens(tokenizer, "[unused1]", [text]), categories=vectors)[1]
            found.append(float(torch.logsumexp(logits, 1)))
        return found, time.perf_counter() - started


def _tokens(tokenizer, role: str, texts: list[str]) -> dict:
    from guard.train.encoder.model import padded

    first, second, last = tokenizer.convert_tokens_to_ids(["[CLS]", role, "[SEP]"])
    rows = [tokenizer(text, add_special_tokens=False, truncation=True, max_length=509)["input_ids"] for text in texts]
    return padded([((first, second, *row, last), (0,) * (len(row) + 3)) for row in rows], 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)  # the loop as a process of its own
    options = parser.parse_args()
    from guard import assets

    bundle = options.model or assets.default_bundle()
    texts = made_up(options.items, LONGEST)
    if options.plain:
        found, seconds = plain_loop(bundle, texts)
        options.plain.write_text(json.dumps({"log_odds": found, "seconds": seconds}))
        return

    import importlib.metadata

    from guard.conversation import Conversation
    from guard.moderator import open_moderator

    runs: dict[str, list[float]] = {"plain_loop": [], "plain_process": [], "library": [], "check_process": []}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        answers = Path(folder) / "plain.json"
        for _ in range(ROUNDS):
            started = time.perf_counter()
            again = ["--items", str(options.items), "--model", str(bundle), "--plain", str(answers)]
            subprocess.run([sys.executable, __file__, *again], check=True)
            runs["plain_process"].append(time.perf_counter() - started)
            plain = json.loads(answers.read_text())
            runs["plain_loop"].append(plain["seconds"])
            started = time.perf_counter()
            command = [sys.executable, "-m", "guard", "check", "--file", str(rows), "--json", "--model", str(bundle)]
            checked = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs["check_process"].append(time.perf_counter() - started)
            moderator = open_moderator(bundle)
            started = time.perf_counter()
            moderator.moderate([Conversation.of(text) for text in texts])
            runs["library"].append(time.perf_counter() - started)
    scale = moderator.calibration.prompt
    theirs = [scale.probability(value) for value in plain["log_odds"]]
    ours = [json.loads(line)["p_unsafe"] for line in checked.splitlines()]
    windowed = [json.loads(line)["coverage"]["windows"] > 1 for line in checked.splitlines()]
    one_window = [abs(a - b) for a, b, many in zip(theirs, ours, windowed, strict=True) if not many]
    seconds = {name: statistics.median(times) for name, times in runs.items()}
    result = {
        "command": f"python benchmarks/check_throughput.py --items {options.items}",
        "texts": len(texts),
        "texts_per_s": {name: round(len(texts) / value, 1) for name, value in seconds.items()},
        "check_vs_plain_process": round(seconds["plain_process"] / seconds["check_process"], 2),
        "library_vs_plain_loop": round(seconds["plain_loop"] / seconds["library"], 2),
        "largest_difference_one_window": round(max(one_window), 6),
        "model": moderator.engine.info.digest,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("onnxruntime", "torch", "transformers")},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
