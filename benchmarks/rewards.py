"""Every reward system on the same human preferences: rows for all of them, and what each trained one can and costs.

    python benchmarks/rewards.py rows DATA ROWS [--some N]     # DATA: built by training/configs/data-rewards.yaml
    python benchmarks/rewards.py measure MODEL ROWS OUT.json   # MODEL: a run, or length, guard, prompted:BASE
    python benchmarks/rewards.py table FOLDER [--out FILE]     # of what was measured, as JSON and as Markdown

training/runs/rewards.sh trains the systems and calls these. Nobody wrote reasons for the pairs. Those here are made of
the shipped guard's verdicts: they let the systems that imitate reasons run, and no more is claimed of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from guard.conversation import Conversation, Message
from guard.jobs.atomic import atomic
from guard.reward.finish import measure as measured
from guard.reward.items import pairs_of
from guard.reward.load import held_out, load_rows
from guard.reward.named import open_named
from guard.reward.row import RewardRow, plain_messages, plain_row
from guard.reward.systems import SYSTEMS
from guard.serve.client import open_guard
from guard.verdict import Verdict

SHARE, SEED = 0.25, 7  # of the prompts that are held out, as in training/runs/rewards.sh; the seed of the recipes
TIMED = 16  # held-out answers, or pairs, whose scoring is timed
EXAMPLE = ("How do I boil an egg?", "Eight minutes in boiling water, then cold water.", "Who cares. Ask somebody else.")
PARTS = ("pairs", "some", "rated", "both", "verdicts")


def rows(data: Path, out: Path, some: int) -> None:
    """pairs: with a reason for each answer; some: the first of them; rated: their answers with attributes, one by the
    people and one by its length; both: rated and pairs; verdicts: single answers that people called safe or not."""
    pairs = [row for row in load_rows(data) if row.chosen]
    policy = open_guard(None, None, "mlcommons").info.policy
    names = {category.code: category.name for category in policy.categories}
    with open_guard(None, None, "mlcommons") as guard:
        asked = [
            Conversation((*p.prompt, Message("assistant", a or ""))) for p in pairs for a in (p.chosen, p.rejected)
        ]
        reasons = [_reason(verdict, names) for verdict in guard.moderate_each(asked)]
    reasoned = [
        plain_row(row)
        | {"chosen_critique": a, "rejected_critique": b, "critique": f"The better one: {a} The other: {b}"}
        for row, a, b in zip(pairs, reasons[::2], reasons[1::2], strict=True)
    ]
    rated = [half for row in pairs for half in _rated(row)]
    parts = {
        "pairs": reasoned,
        "some": reasoned[:some],
        "rated": rated,
        "both": [*rated, *map(plain_row, pairs)],
        "verdicts": list(_verdicts(data)),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        with atomic(out / f"{name}.jsonl") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in parts[name]).encode())
        print(f"{name}: {len(parts[name])} rows")


def _reason(verdict: object, names: Mapping[str, str]) -> str:
    if not isinstance(verdict, Verdict):
        return "It cannot be judged."
    if not verdict.flagged:
        return f"It harms nobody ({verdict.p_unsafe:.2f})."
    return f"It may fall under {', '.join(names[code] for code in verdict.flagged)} ({verdict.p_unsafe:.2f})."


def _rated(row: RewardRow) -> Iterator[dict[str, Any]]:
    for side, preferred in (("chosen", 1.0), ("rejected", 0.0)):
        text = getattr(row, side)
        attributes = {"preferred": preferred, "verbosity": min(2.0, len(text) / 500)}
        prompt = plain_messages(row.prompt)
        yield {"id": f"{row.id}/{side}", "prompt": prompt, "response": text, "attributes": attributes}


def _verdicts(data: Path) -> Iterator[dict[str, Any]]:
    columns = ("id", "messages", "label", "source")
    for row in pq.read_table(data / "train.parquet", columns=list(columns)).to_pylist():
        *prompt, last = row["messages"]
        if last["role"] == "assistant" and prompt and row["label"] in ("safe", "unsafe"):
            yield {
                "id": row["id"],
                "prompt": [{"role": each["role"], "content": each["content"]} for each in prompt],
                "response": last["content"],
                "verdict": row["label"],
                "source": row["source"],
            }


def measure(model: str, data: Path, out: Path) -> None:
    """Accuracy on the held-out prompts, as the run itself measures it; one example's score; ms a score."""
    scorer = open_named(model, None)
    found = load_rows(data)
    train, apart = held_out(found, SHARE, SEED)
    run = Path(model) / "run.json"
    record = json.loads(run.read_text(encoding="utf-8")) if run.is_file() else {}
    told = record["metrics"]["held_out"] if record else measured(scorer, apart, [])[0]
    timed = [(row.prompt, row.chosen or "", row.rejected or "") for row in pairs_of(apart)][:TIMED]
    timed = timed or [(row.prompt, row.response or "", "") for row in apart][:TIMED]
    pairwise = scorer.reader.pairwise
    began = time.perf_counter()
    for row in timed:  # one by one, as a caller without a batch waits for it
        _ = scorer.compare(*row) if pairwise else scorer.score(*row[:2])
    ms = 1000 * (time.perf_counter() - began) / len(timed)
    prompt, better, worse = EXAMPLE
    score, game = scorer.score(prompt, better, worse if pairwise else None), scorer.compare(prompt, better, worse)
    stages = record["metrics"].get("stages", {}) if record else {}
    system = SYSTEMS.get(scorer.info.system)
    result = {
        "system": scorer.info.system,
        "data": data.stem,
        "rows": len(train) if record else 0,
        "steps": sum(stage["steps"] for stage in stages.values()),
        "minutes": round(sum(stage["seconds"] for stage in stages.values()) / 60, 1),
        "resumed": any(stage["resumed"] for stage in stages.values()),
        "held_out": told,
        "example": {"reward": round(score.reward, 3), "p_better": round(game.p, 3), "says": score.rationale[:200]},
        "ms": round(ms, 1),
        "writes": bool(system and system.writes),
        "stages": stages,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    print(f"{scorer.info.system}: {result['held_out']}, {result['ms']} ms")


def table(folder: Path, out: Path | None) -> None:
    every = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    order = {name: place for place, name in enumerate(("length", "guard", *SYSTEMS))}
    every.sort(key=lambda each: order.get(each["system"], len(order)))
    if out is not None:
        with atomic(out) as file:
            file.write((json.dumps({"example": EXAMPLE, "systems": every}, indent=1) + "\n").encode())
    print(markdown(every))


def markdown(every: Sequence[Mapping[str, Any]]) -> str:
    """A row for each system."""
    head = (
        "system",
        "data",
        "rows",
        "steps",
        "minutes",
        "held out",
        "accuracy",
        "example",
        "p better",
        "ms",
        "says why",
    )
    lines = [head, ("---",) * len(head)]
    for each in every:
        held, example = each["held_out"] or {}, each["example"]
        low, high = held.get("interval", (float("nan"),) * 2)
        minutes = f"{'> ' if each['resumed'] else ''}{each['minutes']:g}" if each["stages"] else "–"
        accuracy = f"{held['accuracy']:.3f} [{low:.3f}, {high:.3f}]" if held else "–"
        counts = (f"{each['rows']:,}" if each["rows"] else "–", str(each["steps"] or "–"), minutes)
        scores = (f"{example['reward']:.2f}", f"{example['p_better']:.2f}", f"{each['ms']:g}")
        why = "yes" if each["writes"] else "no"
        lines.append((f"`{each['system']}`", each["data"], *counts, str(held.get("rows", "–")), accuracy, *scores, why))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("rows")
    made.add_argument("data", type=Path)
    made.add_argument("out", type=Path)
    made.add_argument("--some", type=int, default=300)
    one = commands.add_parser("measure")
    one.add_argument("model")
    one.add_argument("data", type=Path)
    one.add_argument("out", type=Path)
    whole = commands.add_parser("table")
    whole.add_argument("folder", type=Path)
    whole.add_argument("--out", type=Path)
    given = parser.parse_args()
    match given.command:
        case "rows":
            rows(given.data, given.out, given.some)
        case "measure":
            measure(given.model, given.data, given.out)
        case "table":
            table(given.folder, given.out)


if __name__ == "__main__":
    main()
