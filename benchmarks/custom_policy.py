"""What training on a company's own rows buys, and what it costs under the base policy: the ferry line of examples/.

python benchmarks/custom_policy.py [--work DIR] [--replay-data data/default] [--base-rows 600] [--threads 1]
python benchmarks/custom_policy.py --model BUNDLE --base FOLDER [--set key=value …]     from a language model

Trains guards on 100 and on 1,000 rows, with and without replay, and one without the rows of two categories; exports
them and measures each, beside the guard that they start from, on the held-out rows of the example (written before the
training rows and before any guard had scored them) and on dev rows of the base data. The seeds are left out of the
dev rows, as replay may train on them. What is finished under --work is not trained again; results go to
benchmarks/results/custom_policy.json, and the tables to docs/custom-policies.md. With --base they are of the recipe
sft on that language model, beside the guard --model that was exported from it, and go to custom_policy_causal.json.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from guards import core_count, open_guard
from page import publish
from readme import figure, table

from guard import policy
from guard.conversation import Conversation, conversation_from_row
from guard.data.dataset.examples import load_examples
from guard.metrics import classification, intervals
from guard.metrics.classification import Bools, Floats
from guard.moderator import Moderator
from guard.policy import Policy
from guard.train.common.replay import SEEDS
from guard.verdict import Outcome, Verdict

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "ferry-line"
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "custom-policies.md"
HELD_OUT = ("F2", "F6")  # categories that one of the guards never sees
FEW = 100  # rows: the first ones of the training file
CHUNK = 512  # conversations scored at once
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A guard to train: how many rows, what else changes, and the codes whose rows are left out."""

    rows: int | None  # None: all
    replay: bool = True
    without: tuple[str, ...] = ()


RECIPES = {
    "100 rows": Recipe(FEW),
    "100 rows, no replay": Recipe(FEW, replay=False),
    "1,000 rows": Recipe(None),
    "1,000 rows, no replay": Recipe(None, replay=False),
    "1,000 rows, two categories held out": Recipe(None, without=HELD_OUT),
}
BEFORE = "before training"


@dataclass(frozen=True)
class Kind:
    """Of which backbone the guards are: what trains them, and where the numbers go."""

    name: str
    config: str
    base: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


def read(name: str) -> list[Row]:
    return [json.loads(line) for line in (EXAMPLE / name).read_text(encoding="utf-8").splitlines()]


def conversations(rows: Sequence[Row]) -> list[Conversation]:
    return [conversation_from_row(row) for row in rows]


# -- training ---------------------------------------------------------------------------------------------------------


def teaches(row: Row, without: Collection[str]) -> bool:
    """Whether a guard that must not know the codes `without` may learn from a row: no violation, and no near-miss."""
    return not {*row.get("categories", ()), row.get("near_miss")} & {*without}


def trained(recipe: Recipe, kind: Kind, work: Path, replay_data: str | None) -> dict[str, Any]:
    """The seconds and rows of a training that leaves its bundle at `work`/bundle; from the last time if it is there."""
    told = work / "training.json"
    if not told.exists():
        work.mkdir(parents=True, exist_ok=True)
        rows = [row for row in read("train.jsonl")[: recipe.rows] if teaches(row, recipe.without)]
        (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        rules = policy.load(EXAMPLE / "policy.yaml").without(recipe.without)
        (work / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
        changes = [*kind.changes, *([] if recipe.replay else ["replay.share=0"])]
        changes += [f'replay.data="{replay_data}"'] * bool(recipe.replay and replay_data)
        paths = ("--policy", work / "policy.yaml", "--data", work / "rows.jsonl", "--out", work / "run")
        seconds, cpu = timed("train", kind.config, *changes, *kind.base, *paths)
        timed("export", work / "run", work / "bundle", "--name", "ferry-line")
        record = {"rows": len(rows), "seconds": round(seconds), "cpu_seconds": round(cpu), "cores": core_count()}
        told.write_text(json.dumps(record), encoding="utf-8")
    found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    return found


def timed(*arguments: str | Path) -> tuple[float, float]:
    """Seconds by the clock and of the CPU that a `guard` command took."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "guard", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# -- measuring --------------------------------------------------------------------------------------------------------


def verdicts(
    guard: Moderator, asked: Sequence[Conversation], rules: Policy, exclude: Sequence[str] = ()
) -> list[Verdict]:
    parts = [asked[start : start + CHUNK] for start in range(0, len(asked), CHUNK)]
    return [verdict for part in parts for verdict in guard.moderate(part, rules, exclude)]


def unsafe(found: Sequence[Verdict]) -> Bools:
    return np.array([verdict.outcome is Outcome.UNSAFE for verdict in found])


def quality(labels: Bools, found: Sequence[Verdict]) -> dict[str, Any]:
    """AUPRC, the best F1, and what the guard's own thresholds make of the rows."""
    scores = np.array([verdict.p_unsafe for verdict in found])
    at, best = (
        classification.confusion(labels, unsafe(found).astype(float), 0.5),
        classification.best_f1(labels, scores),
    )
    return {
        "rows": len(labels),
        "unsafe": int(labels.sum()),
        "auprc": classification.auprc(labels, scores),
        "auprc_interval": intervals.of_rankings(labels, scores)["auprc"],
        "best_f1": None if best is None else best.value,
        "f1": at.f1,
        "recall": at.recall,
        "fpr": at.fpr,
    }


def on_base(guard: Moderator, rules: Policy, data: Path, rows: int | None) -> dict[str, Any]:
    """The guard under the policy that it was first trained for, on dev prompts and responses without the seeds."""
    dev = [e for e in load_examples(data, "dev", rules) if e.kind != "text" and e.source not in SEEDS]
    if rows is not None:
        dev = random.Random(0).sample(dev, min(rows, len(dev)))
    labels = np.array([example.label == "unsafe" for example in dev])
    return quality(labels, verdicts(guard, [example.conversation for example in dev], rules))


def on_custom(guard: Moderator, rules: Policy, rows: Sequence[Row]) -> dict[str, Any]:
    """The guard on the held-out rows: as a whole, on near-misses, and each category by itself."""
    found = verdicts(guard, conversations(rows), rules)
    labels = np.array([row["label"] == "unsafe" for row in rows])
    near = np.array(["near_miss" in row for row in rows])
    flagged = unsafe(found)
    return {
        **quality(labels, found),
        "near_misses": int(near.sum()),
        "near_miss_fpr": float(flagged[near].mean()),
        "auroc_of": {code: category_auroc(code, rows, found) for code in rules.codes},
        **dropped(guard, rules, rows, flagged),
    }


def category_auroc(code: str, rows: Sequence[Row], found: Sequence[Verdict]) -> float | None:
    """How well the category's own score parts the rows that violate it from the safe ones."""
    kept = [index for index, row in enumerate(rows) if row["label"] == "safe" or code in row["categories"]]
    labels = np.array([rows[index]["label"] == "unsafe" for index in kept])
    scores: Floats = np.array([found[index].categories[code] for index in kept])
    return classification.auroc(labels, scores)


def dropped(guard: Moderator, rules: Policy, rows: Sequence[Row], flagged: Bools) -> dict[str, Any]:
    """What becomes of a row when the only category that it violates leaves the policy.

    safe_without: the share of these rows that are then judged safe. flips: the share of the rows judged unsafe under
    the whole policy that become safe, as they ought to.
    """
    safe, was = [], []
    for code in rules.codes:
        places = [index for index, row in enumerate(rows) if row.get("categories") == [code]]
        left = verdicts(guard, conversations([rows[index] for index in places]), rules, [code])
        safe += [verdict.outcome is Outcome.SAFE for verdict in left]
        was += [bool(flagged[index]) for index in places]
    turned = [now for now, before in zip(safe, was, strict=True) if before]
    return {
        "dropped_rows": len(safe),
        "safe_without": float(np.mean(safe)),
        "flips": float(np.mean(turned)) if turned else None,
        "flips_rows": len(turned),
    }


# -- telling ----------------------------------------------------------------------------------------------------------


def markdown(result: Mapping[str, Any]) -> str:
    """The tables of the page."""
    head = ("guard", "AUPRC (95 %)", "best F1", "F1", "near-misses flagged", "AUPRC, base", "best F1, base", "F1, base")
    rows, obeys = [], []
    for name, found in result["guards"].items():
        own, base = found["custom"], found["base"]
        between = "{:.2f}–{:.2f}".format(*own["auprc_interval"])
        cells = [own["best_f1"], own["f1"], own["near_miss_fpr"], base["auprc"], base["best_f1"], base["f1"]]
        rows.append((name, f"{figure(own['auprc'])} ({between})", *map(figure, cells)))
        of = [figure(own["auroc_of"][code]) for code in result["held_out_categories"]]
        took = found.get("training")
        seconds = ("–", "–") if took is None else (f"{took['seconds']} s", f"{took['cpu_seconds']} s")
        obeys.append((name, figure(own["safe_without"]), figure(own["flips"]), *of, *seconds))
    some = result["guards"][BEFORE]
    alone = [f"AUROC of {code}" for code in result["held_out_categories"]]
    second = ("guard", "safe without its category", "flips", *alone, "training", "of the CPU")
    counts = f"{some['custom']['rows']} held-out rows of the ferry line, {some['custom']['unsafe']} unsafe, "
    counts += f"{some['custom']['near_misses']} near-misses; {some['base']['rows']} dev rows under the base policy. "
    counts += f"Base `{result['model'][:12]}`; trained on {result['cores']} core(s) of a busy machine."
    return "\n\n".join([f"`{result['command']}`", counts, table(head, *rows), table(second, *obeys)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/custom_policy"), help="where guards are trained")
    parser.add_argument("--replay-data", help="a built folder to replay; the seeds that ship with guard if left out")
    parser.add_argument("--data", type=Path, default=Path("data/default"), help="the base data, for its dev rows")
    parser.add_argument("--base-rows", type=int, help="a sample of so many dev rows; all if left out")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), help="guards to train")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--model", type=Path, help="the guard before training; the shipped one if left out")
    parser.add_argument("--base", type=Path, help="the language model to train, which --model was exported from")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the configuration")
    options = parser.parse_args()
    if (options.base is None) != (options.model is None):
        parser.error("--model and --base go together")
    changes = (*options.set, *([f"threads={options.threads}"] if options.threads else []))
    kind = Kind("custom_policy", "encoder-custom", (), changes)
    if options.base is not None:
        kind = Kind("custom_policy_causal", "custom-policy", ("--base", str(options.base)), tuple(options.set))
    before = open_guard(options.model, options.threads)
    rules, rows = policy.load(EXAMPLE / "policy.yaml"), read("held_out.jsonl")
    guards: dict[str, Any] = {}
    for name in (BEFORE, *options.only):
        work = options.work / name.replace(",", "").replace(" ", "-")
        told, guard = {}, before
        if name != BEFORE:
            told = {"training": trained(RECIPES[name], kind, work, options.replay_data)}
            guard = open_guard(work / "bundle", options.threads)
        base = on_base(guard, before.policy, options.data, options.base_rows)
        guards[name] = told | {"model": guard.engine.info.digest, "base": base, "custom": on_custom(guard, rules, rows)}
        print(f"{name}: {json.dumps(guards[name])}", flush=True)
    given = "".join(
        f" --{key.replace('_', '-')} {value}"
        for key in ("model", "base", "replay_data", "base_rows", "threads")
        if (value := getattr(options, key)) is not None
    )
    if options.only != list(RECIPES):
        given += " --only " + " ".join(f'"{name}"' for name in options.only)
    given += f" --set {' '.join(options.set)}" * bool(options.set)
    result = {
        "command": f"python benchmarks/custom_policy.py{given}",
        "model": before.engine.info.digest,
        "policy": rules.digest,
        "held_out_categories": list(HELD_OUT),
        "cores": core_count(),
        "guards": guards,
    }
    (RESULTS / f"{kind.name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    publish(PAGE, kind.name, markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
