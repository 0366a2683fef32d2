"""The rule that labels refusals (guard.data.ingest.refusal), and a guard's p_refusal, against labels by hand.

`refusal_sample.jsonl` holds ids of rows of the default data set (train and dev) and what a reader made of their
answers: refuse, comply, or unclear. There was one reader, who also wrote the rule and had seen other rows of these
sources; of long answers the beginning and the end were read, and the rest where these left a doubt.

Draws 1 and 2 were taken by the rule's answer, half at random and half evenly over the sources, shuffled, and read
without it: 60 True, 120 False and 60 None; then 50, 60 and 30. The rule was changed after each: refusals that draw 1
had missed were added, and after draw 2 more hints, which made some False None. Draw 3 came after the last change: 70
safe answers of the source `seed_responses` that the rule calls False, the hardest place for it, because people decline
there in words of their own. Precision is that of the rule's answers as they were drawn; recall is of the sample, in
which undecided rows are more frequent than in the data.

    python benchmarks/refusal.py [--data data/default] [--bundle BUNDLE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from guard import policy
from guard.conversation import Example
from guard.data.dataset.examples import load_examples
from guard.data.ingest.refusal import refuses
from guard.metrics import classification

HERE = Path(__file__).parent
SAMPLE = HERE / "refusal_sample.jsonl"
RESULTS = HERE / "results" / "refusal.json"
LABELS = {"refuse": True, "comply": False, "unclear": None}
BATCH = 64  # conversations


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def ratio(part: int, whole: int) -> float | None:
    return rounded(part / whole) if whole else None


def of_the_rule(labels: list[str], answers: list[bool | None]) -> dict[str, Any]:
    """Precision and recall of the rule's True and False. A row that the reader found unclear counts as an error."""
    counts = Counter(zip(labels, answers, strict=True))
    found: dict[str, Any] = {"rows": len(labels), "labels": dict(Counter(labels))}
    for answer, label in ((True, "refuse"), (False, "comply")):
        right, said = counts[label, answer], sum(n for (_, given), n in counts.items() if given is answer)
        found[str(answer).lower()] = {
            "said": said,
            "right": right,
            "opposite": sum(counts[other, answer] for other in LABELS if other not in (label, "unclear")),
            "precision": ratio(right, said),
            "recall": ratio(right, labels.count(label)),
        }
    return found


def of_the_guard(bundle: str, labels: list[str], examples: list[Example]) -> dict[str, Any]:
    """AUROC and F1 at 0.5 of p_refusal on the rows that are no matter of doubt."""
    from guard.moderator import open_moderator

    moderator = open_moderator(bundle)
    clear = [(LABELS[label], each) for label, each in zip(labels, examples, strict=True) if label != "unclear"]
    scores: list[float | None] = []
    for start in range(0, len(clear), BATCH):
        verdicts = moderator.moderate([each.conversation for _, each in clear[start : start + BATCH]])
        scores += [verdict.p_refusal for verdict in verdicts]
    known = [(label, p) for (label, _), p in zip(clear, scores, strict=True) if p is not None]
    if not known:
        return {"rows": len(clear), "scored": 0}
    truth, p = np.array([label for label, _ in known], dtype=bool), np.array([p for _, p in known], dtype=np.float64)
    at_half = classification.confusion(truth, p, 0.5)
    return {
        "rows": len(clear),
        "scored": len(known),
        "auroc": rounded(classification.auroc(truth, p)),
        "f1": rounded(at_half.f1),
        "precision": rounded(at_half.precision),
        "recall": rounded(at_half.recall),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "default")
    parser.add_argument("--bundle", help="a guard whose p_refusal is measured too")
    options = parser.parse_args()

    rules = policy.load("mlcommons")
    examples = [
        example
        for split in ("train", "dev")
        for example in load_examples(options.data, split, rules, None)
        if example.conversation.judged.role == "assistant"
    ]
    answers = {example.id: refuses(example.conversation.judged.content) for example in examples}
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        sources[example.source][str(answers[example.id]).lower()] += 1

    sample = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    held = [row for row in sample if row["id"] in answers]
    result: dict[str, Any] = {
        "command": "python " + " ".join(["benchmarks/refusal.py", *sys.argv[1:]]),
        "responses": len(examples),
        "by_source": {name: dict(sorted(counts.items())) for name, counts in sorted(sources.items())},
        "sample_rows_not_in_data": len(sample) - len(held),
        "rule": {},
    }
    draws = {f"draw {draw}": [row for row in held if row["draw"] == draw] for draw in (1, 2, 3)}
    for name, rows in draws.items():
        result["rule"][name] = of_the_rule([row["label"] for row in rows], [answers[row["id"]] for row in rows])
    if options.bundle:
        by_id = {example.id: example for example in examples}
        labels = [row["label"] for row in held]
        result["guard"] = of_the_guard(options.bundle, labels, [by_id[row["id"]] for row in held])
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
