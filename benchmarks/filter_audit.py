"""The estimates of `guard audit` against the truth: a labelled set is filtered, sampled, and the sample labelled.

The rows are prompts of GRTrain. The precision and recall of the guard on all of them are known; each of many samples
estimates them from its own labels alone.

    python benchmarks/filter_audit.py DATA [--items N] [--sample N] [--samples N]

DATA is the folder of `raw/`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from page import publish

from guard.filter.audit.estimate import estimate
from guard.filter.audit.labels import Label
from guard.filter.audit.sample import draw
from guard.filter.columns import parse_columns
from guard.filter.inputs import Source
from guard.filter.job import Job
from guard.filter.run import filter_rows
from guard.moderator import open_moderator

RESULTS = Path(__file__).parent / "results" / "filter_audit.json"
PAGE = Path(__file__).parents[1] / "docs" / "filtering.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--sample", type=int, default=120)
    parser.add_argument("--samples", type=int, default=100)
    given = parser.parse_args()
    rows = []
    for name in ("grtrain_aegis", "grtrain_wildguard"):
        with (given.data / "raw" / name / f"{name}.jsonl").open(encoding="utf-8") as file:
            rows += list(map(json.loads, file))
    random.Random(1).shuffle(rows)
    rows = rows[: given.items]
    with tempfile.TemporaryDirectory() as folder, open_moderator() as guard:
        source, scored = Path(folder) / "in.jsonl", Path(folder) / "scored.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        filter_rows(Job([source], scored, Path(folder) / "q.jsonl", annotate=True), guard)
        judged = [json.loads(line) for line in scored.read_text(encoding="utf-8").splitlines()]
        truth = [row["label"] == "harmful" for row in judged]
        flagged = [row["guard_outcome"] != "SAFE" for row in judged]
        both = sum(map(bool.__and__, truth, flagged))
        true = {"precision": both / sum(flagged), "recall": both / sum(truth), "unsafe_share": sum(truth) / len(truth)}
        covered, estimates = dict.fromkeys(true, 0), {name: [] for name in true}
        for seed in range(given.samples):
            drawn, strata = draw([Source(scored, Path(scored.name))], parse_columns(""), given.sample, seed)
            labels = {each.id: Label("unsafe" if truth[each.line - 1] else "safe", None) for each in drawn}
            made = estimate(drawn, strata, labels, seed)
            for name, value in true.items():
                covered[name] += made[name].low <= value <= made[name].high
                estimates[name].append([made[name].value, made[name].low, made[name].high])
    result = {
        "command": " ".join(["python", sys.argv[0], "DATA", *sys.argv[2:]]),
        "model": judged[0]["guard_model"],
        "rows": len(judged),
        "labels_per_sample": given.sample,
        "samples": given.samples,
        "true": true,
        "mean_estimate": {name: sum(value for value, _, _ in made) / len(made) for name, made in estimates.items()},
        "first_sample": {name: made[0] for name, made in estimates.items()},
        "share_of_intervals_that_hold_the_truth": {name: count / given.samples for name, count in covered.items()},
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    publish(PAGE, "audit", table(result))
    print(json.dumps(result, indent=1))


def table(result: dict) -> str:
    lines = [
        f"`{result['command']}`: {result['samples']} samples of {result['labels_per_sample']} labels each, of "
        f"{result['rows']} labelled rows.",
        "",
        "| | true | mean estimate | first sample | intervals that hold the truth |",
        "|---|---|---|---|---|",
    ]
    for name, true in result["true"].items():
        value, low, high = result["first_sample"][name]
        held = result["share_of_intervals_that_hold_the_truth"][name]
        lines.append(
            f"| {name.replace('_', ' ')} | {true:.3f} | {result['mean_estimate'][name]:.3f} | {value:.3f} "
            f"({low:.3f} to {high:.3f}) | {held:.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
