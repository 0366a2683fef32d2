"""How well a guard follows policies of which its training never saw anything: AUROC and best F1 of invented ones.

python benchmarks/zero_shot.py [--bundle BUNDLE_OR_RUN]

Each policy in benchmarks/policies has 52 violating and 52 harmless prompts and responses, written by hand before any
guard had scored them; about a third of the harmless ones are near-misses that share words with the policy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from guards import core_count, open_guard

from guard import policy
from guard.conversation import conversation_from_row
from guard.metrics import classification, intervals
from guard.metrics.classification import Bools, Floats
from guard.moderator import Moderator

POLICIES = Path(__file__).parent / "policies"
RESULTS = Path(__file__).parent / "results" / "zero_shot.json"
ROUNDS = 1000
Rows = Sequence[Mapping[str, Any]]


def rows_of(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def best(labels: Bools, scores: Floats) -> float | None:
    found = classification.best_f1(labels, scores)
    return None if found is None else found.value


def best_interval(labels: Bools, scores: Floats) -> tuple[float, float]:
    """95 % bootstrap interval of the best F1, whose threshold is chosen anew in each sample."""
    random = np.random.default_rng(0)
    drawn = (random.integers(0, len(labels), len(labels)) for _ in range(ROUNDS))
    found = [value for rows in drawn if (value := best(labels[rows], scores[rows])) is not None]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def quality(labels: Bools, scores: Floats, flagged: Bools) -> dict[str, Any]:
    """AUROC and best F1 with intervals, and what the guard's own threshold makes of the rows."""
    at = classification.confusion(labels, flagged.astype(float), 0.5)
    return {
        "rows": len(labels),
        "unsafe": int(labels.sum()),
        "auroc": classification.auroc(labels, scores),
        "auroc_interval": intervals.of_rankings(labels, scores, ROUNDS)["auroc"],
        "best_f1": best(labels, scores),
        "best_f1_interval": best_interval(labels, scores),
        "f1": at.f1,
        "recall": at.recall,
        "fpr": at.fpr,
    }


def measured(guard: Moderator, name: str) -> dict[str, Any]:
    """The guard under the policy `name` alone: all rows, and the AUROC of parts of them."""
    rules = policy.load(POLICIES / f"{name}.yaml")
    rows = rows_of(POLICIES / f"{name}.jsonl")
    verdicts = guard.moderate([conversation_from_row(row) for row in rows], rules)
    labels = np.array([row["label"] == "unsafe" for row in rows])
    scores = np.array([verdict.p_unsafe for verdict in verdicts])
    flagged = np.array([verdict.p_unsafe >= verdict.threshold for verdict in verdicts])
    near = np.array([row.get("near_miss", False) for row in rows])
    answers = np.array(["response" in row for row in rows])
    parts = {"near_misses": labels | near, "prompts": ~answers, "responses": answers}
    aurocs = {part: classification.auroc(labels[kept], scores[kept]) for part, kept in parts.items()}
    return {"name": rules.name, **quality(labels, scores, flagged), "auroc_of": aurocs}


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def shown(result: Mapping[str, Any]) -> str:
    head = f"{'policy':14}{'AUROC (95 %)':>22}{'best F1 (95 %)':>22}{'F1':>7}{'recall':>8}{'FPR':>7}{'near-misses':>13}"
    lines = [head]
    for name, found in result["policies"].items():
        ranges = [
            f"{found[key]:.3f} ({found[f'{key}_interval'][0]:.2f}–{found[f'{key}_interval'][1]:.2f})"
            for key in ("auroc", "best_f1")
        ]
        lines.append(
            f"{name:14}{ranges[0]:>22}{ranges[1]:>22}{figure(found['f1']):>7}{figure(found['recall']):>8}"
            f"{figure(found['fpr']):>7}{figure(found['auroc_of']['near_misses']):>13}"
        )
    return "\n".join([*lines, f"mean: AUROC {result['mean_auroc']:.3f}, best F1 {result['mean_best_f1']:.3f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle or a run's folder; the shipped guard if left out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    guard = open_guard(options.bundle, options.threads)
    policies = {path.stem: measured(guard, path.stem) for path in sorted(POLICIES.glob("*.yaml"))}
    result = {
        "command": "python benchmarks/zero_shot.py" + (" --bundle BUNDLE" if options.bundle else ""),
        "model": guard.engine.info.digest,
        "mode": guard.mode,
        "policies": policies,
        "mean_auroc": float(np.mean([found["auroc"] for found in policies.values()])),
        "mean_best_f1": float(np.mean([found["best_f1"] for found in policies.values()])),
        "cores": core_count(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(shown(result))


if __name__ == "__main__":
    main()
