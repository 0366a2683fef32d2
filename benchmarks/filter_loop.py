"""The labelling loop end to end: filter, audit, training rows, training, and the guard that comes of it.

A bank writes a policy of its own (examples/bank.yaml) and has many unlabelled messages of customers: real questions of
BANKING77, whose intents stand for the people who label. In each round the messages are filtered under the policy, a
sample of them is drawn and labelled, the labels become training rows, and the guard is trained on those of all rounds.
All steps are the commands that a user runs. Every guard is measured on the same held-out messages; none of them is ever
drawn. The shipped guard read some of BANKING77 as harmless questions, though never under this policy.

    python benchmarks/filter_loop.py DATA [--labels N] [--rounds N] [--pool N] [--held-out N] [--set KEY=VALUE …]

DATA is the folder of `raw/`.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from page import publish

from guard import policy
from guard.conversation import Conversation
from guard.metrics import classification, intervals
from guard.moderator import open_moderator
from guard.verdict import Outcome

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "filter_loop.json"
PAGE = ROOT / "docs" / "filtering.md"
POLICY = "examples/bank.yaml"
INTENTS = {  # of BANKING77, by what they violate
    "lost_or_stolen_card": "B1",
    "lost_or_stolen_phone": "B1",
    "compromised_card": "B2",
    "card_payment_not_recognised": "B2",
    "cash_withdrawal_not_recognised": "B2",
    "direct_debit_payment_not_recognised": "B2",
    "unable_to_verify_identity": "B3",
    "verify_my_identity": "B3",
    "verify_source_of_funds": "B3",
    "why_verify_identity": "B3",
    "terminate_account": "B4",
}
Row = tuple[str, str | None]  # a message, and the code that it violates


def messages(data: Path) -> list[Row]:
    """All different messages, in an order of their own."""
    with (data / "raw" / "banking77" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["text"].strip(): INTENTS.get(row["category"]) for row in csv.DictReader(file)}
    return random.Random(0).sample(sorted(rows.items()), len(rows))


def guard(*arguments: str | Path, say: bool = False) -> str:
    print("guard", *arguments, file=sys.stderr, flush=True)
    line = [sys.executable, "-m", "guard", *map(str, arguments)]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE if say else subprocess.DEVNULL, text=True).stdout


def labelled(form: Path, labels: Path, truth: dict[str, str | None]) -> int:
    """The form as a person fills it in who knows the intents; how many rows are unsafe."""
    with form.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        code = truth[row["text"].removeprefix("'").partition("] ")[2].strip()]
        row["label"], row["categories"] = ("safe", "") if code is None else ("unsafe", code)
    with labels.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return sum(row["label"] == "unsafe" for row in rows)


def measured(model: Path | None, held_out: list[Row]) -> dict[str, Any]:
    with open_moderator(model, ROOT / POLICY, threads=1) as judge:
        verdicts = judge.moderate([Conversation.of(text) for text, _ in held_out])
        digest = judge.info.model
    labels = np.array([code is not None for _, code in held_out])
    scores = np.array([verdict.p_unsafe for verdict in verdicts])
    flagged = np.array([verdict.outcome is Outcome.UNSAFE for verdict in verdicts], float)
    own, best = classification.confusion(labels, flagged, 0.5), classification.best_f1(labels, scores)
    return {
        "model": digest,
        "f1": own.f1,
        "precision": own.precision,
        "recall": own.recall,
        "best_f1": None if best is None else best.value,
        "auprc": classification.auprc(labels, scores),
        "auprc_interval": intervals.of_rankings(labels, scores)["auprc"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", type=int, default=200, help="of each round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pool", type=int, default=2000)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the configuration")
    parser.add_argument("--work", type=Path, help="a new folder to keep; a temporary one if left out")
    given = parser.parse_args()
    rows = messages(given.data)
    pool, held_out = rows[: given.pool], rows[given.pool :][: given.held_out]
    rules = policy.load(ROOT / POLICY)
    rounds: list[dict[str, Any]] = [{"name": "the shipped guard", **measured(None, held_out)}]
    print(json.dumps(rounds[-1]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder) / "work"
        work.mkdir(parents=True)
        model: list[str | Path] = []
        left, learnt = dict(pool), work / "rows.jsonl"
        learnt.touch()
        for number in range(1, given.rounds + 1):
            here = work / f"round-{number}"
            here.mkdir()
            source = here / "messages.jsonl"
            source.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in left), encoding="utf-8")
            scored, audit = here / "scored.jsonl", here / "audit"
            guard("filter", source, scored, "--annotate", "--no-report", "--policy", ROOT / POLICY, *model)
            guard("audit", "draw", scored, audit, "--rows", str(given.labels), "--policy", ROOT / POLICY)
            unsafe = labelled(audit / "labels.csv", audit / "labels.csv", left)
            estimate = json.loads(guard("audit", "estimate", audit, "--json", say=True))
            guard("data", "from-filter", audit, here / "rows.jsonl")
            added = (here / "rows.jsonl").read_text(encoding="utf-8")
            with learnt.open("a", encoding="utf-8") as file:
                file.write(added)
            guard("train", "threads=1", *given.set, "--policy", ROOT / POLICY, "--data", learnt, "--out", here / "run")
            guard("export", here / "run", here / "bundle", "--name", "bank")
            model = ["--model", here / "bundle"]
            for row in map(json.loads, added.splitlines()):
                left.pop(row["messages"][-1]["content"], None)
            rounds.append(
                {
                    "name": f"round {number}",
                    "labels": given.labels,
                    "unsafe": unsafe,
                    "training_rows": len(learnt.read_text(encoding="utf-8").splitlines()),
                    "estimate_before": {name: estimate[name] for name in ("precision", "recall", "unsafe_share")},
                    **measured(here / "bundle", held_out),
                }
            )
            print(json.dumps(rounds[-1]), flush=True)
    result = {
        "command": " ".join(["python", "benchmarks/filter_loop.py", "DATA", *sys.argv[2:]]),
        "policy": rules.digest,
        "pool": {"rows": len(pool), "unsafe": sum(code is not None for _, code in pool)},
        "held_out": {"rows": len(held_out), "unsafe": sum(code is not None for _, code in held_out)},
        "rounds": rounds,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    publish(PAGE, "loop", table(result))


def table(result: dict[str, Any]) -> str:
    held = result["held_out"]
    lines = [
        f"`{result['command']}`: {held['rows']:,} held-out messages, {held['unsafe']} of them unsafe; "
        f"{result['pool']['rows']:,} others to draw from.",
        "",
        "| guard | labels | F1 | precision | recall | best F1 | AUPRC (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    labels = 0
    for each in result["rounds"]:
        labels += each.get("labels", 0)
        low, high = each["auprc_interval"]
        values = [each[name] for name in ("f1", "precision", "recall", "best_f1")]
        cells = ["–" if value is None else f"{value:.3f}" for value in values]  # nothing flagged: no precision
        lines.append(
            f"| {each['name']} | {labels} | {' | '.join(cells)} | {each['auprc']:.3f} ({low:.3f}–{high:.3f}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
