"""The forms that a causal guard can ship in, side by side: size, parity, accuracy cost and speed.

    python benchmarks/causal_forms.py RUN [--data DIR] [--rows N] [--forms fp32 fp16 …] [--head verdict]

RUN is a finished causal run. Every form is exported by `guard export`, checks included, and scores the same dev rows;
with no dev rows the cost is that on the texts of the parity check alone. The first form is the base of all comparisons.
Speed is that of one batch of windows on the cached policy, in rounds, all forms in each and in another order every
time; with one thread it is the CPU time of the process, which a busy machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from texts import made_up

from guard.bundle import open_bundle
from guard.conversation import Conversation, Example
from guard.data.dataset.examples import load_examples
from guard.engines.base import Engine
from guard.engines.registry import open_engine
from guard.metrics.classification import auprc, best_f1
from guard.policy import Policy
from guard.prompts.window import Window
from guard.train.common.calibrate import scores
from guard.train.common.parity import Floats, difference

RESULTS = Path(__file__).parent / "results" / "causal_forms.json"
FORMS = ("fp32", "fp16", "bf16", "int8", "int4")
BATCHES = (1, 16)


def exported(run: Path, out: Path, form: str, head: str) -> dict[str, Any]:
    """Exports one form; its size, its parity and how long it took. A form that is refused says why."""
    options = ["--form", form, "--head", head, "--most-flips", "1"]  # the cost is what is measured here
    command = [sys.executable, "-m", "guard", "export", str(run), str(out), *options]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"refused": done.stderr.strip().splitlines()[-1]}
    report = json.loads((out / "parity.json").read_text(encoding="utf-8"))
    return {
        "mb": round(sum((out / name).stat().st_size for name in ("model.onnx", "model.onnx.data")) / 1e6, 2),
        "export_s": round(time.monotonic() - started, 1),
        "parity": {key: report["batch"][key] for key in ("windows", "furthest", "flips")},
        "cost_on_parity_texts": {key: report["cost"][key] for key in ("furthest", "flips")},
    }


@dataclass(frozen=True, slots=True)
class Opened:
    """An exported form and the policy that it was trained for."""

    engine: Engine
    rules: Policy

    def windows(self, count: int) -> list[Window]:
        """One window of each of so many made-up texts."""
        return [self.engine.tokenize(Conversation.of(text), self.rules).windows[0] for text in made_up(count, 100)]


def accuracy(form: Opened, dev: Sequence[Example], base: Floats | None) -> tuple[dict[str, Any], Floats]:
    """How well the form ranks the dev rows, and what it changes against the log-odds `base` of the first form."""
    odds, _ = scores(form.engine, dev, form.rules)
    labels = np.array([example.label == "unsafe" for example in dev])
    change = difference(odds if base is None else base, odds)
    best = best_f1(labels, odds)
    return {
        "rows": len(dev),
        "auprc": auprc(labels, odds),
        "best_f1": best.value if best else None,
        "furthest": change.furthest,
        "flips": change.flips,
    }, odds


def speed(opened: Mapping[str, Opened], rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """Windows per second of each form by batch size."""
    clock = time.process_time if threads == 1 else time.perf_counter
    taken: dict[str, dict[int, list[float]]] = {form: {batch: [] for batch in BATCHES} for form in opened}
    for batch in BATCHES:
        windows = {form: each.windows(batch) for form, each in opened.items()}
        for attempt in range(rounds + 1):
            order = list(opened)
            random.Random(attempt).shuffle(order)
            for form in order:
                started = clock()
                opened[form].engine.score(windows[form])
                if attempt:  # the first round warms up
                    taken[form][batch].append(clock() - started)
    return {
        form: {f"batch {batch}": round(batch / statistics.median(times), 2) for batch, times in found.items()}
        for form, found in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="folder with a dev split; default: no dev rows")
    parser.add_argument("--rows", type=int, default=1000, help="dev rows at most")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="the first is the base")
    parser.add_argument("--head", choices=("full", "verdict"), default="verdict")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    record = json.loads((given.run / "run.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    opened: dict[str, Opened] = {}
    with tempfile.TemporaryDirectory() as folder:
        dev: list[Example] = []
        base: Floats | None = None
        for form in given.forms:
            out = Path(folder) / form
            found[form] = exported(given.run, out, form, given.head)
            if "refused" not in found[form]:
                bundle = open_bundle(out)
                opened[form] = Opened(open_engine(bundle, given.threads), bundle.policy)
                if given.data is not None:
                    dev = dev or sample(load_examples(given.data, "dev", bundle.policy), given.rows)
                    found[form]["dev"], odds = accuracy(opened[form], dev, base)
                    base = odds if base is None else base
            print(json.dumps({form: found[form]}), flush=True)
        for form, each in speed(opened, given.rounds, given.threads).items():
            found[form]["windows_per_s"] = each
    result = {
        "command": "python benchmarks/causal_forms.py " + " ".join(sys.argv[1:]),
        "parameters": record.get("parameters"),
        "head": given.head,
        "speed_in": "CPU time" if given.threads == 1 else "wall time",
        "threads": given.threads,
        "versions": {name: importlib.metadata.version(name) for name in ("onnxruntime", "torch", "transformers")},
        "forms": found,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def sample(rows: Sequence[Example], most: int) -> list[Example]:
    return random.Random(7).sample(list(rows), min(most, len(rows)))


if __name__ == "__main__":
    main()
