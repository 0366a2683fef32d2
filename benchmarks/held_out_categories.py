"""How well a guard knows categories that its training never saw: some are held out, a guard is trained without them.

python benchmarks/held_out_categories.py make DIR [--without S6 S7 …]     data and policy without them, and the command
python benchmarks/held_out_categories.py score RUN [--reference BUNDLE]   the run (or its bundle), once it is trained

The reduced data lack, in train and dev, the rows that violate a held-out category, the unsafe rows of unknown category
(some may violate one), and the safe near-misses that were written for a held-out category. The run is measured on the
rows that were left out and on the dev and test splits, of which those marked `fresh` are in no guard's training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from guards import core_count, open_guard

from guard import assets, policy
from guard.calibration import Calibration
from guard.conversation import Conversation, Example
from guard.data.dataset.examples import load_examples
from guard.metrics import intervals
from guard.metrics.classification import Bools, Floats, auroc
from guard.moderator import Moderator
from guard.policy import Policy
from guard.verdict import log_odds

RESULTS = Path(__file__).parent / "results" / "held_out_categories.json"
WITHOUT = ("S6", "S7", "S8", "S11", "S12", "S13")
SPLITS = ("train", "dev", "test")
CHECKED = 64  # rows on which a category's score is computed twice


def near_misses(code: str) -> set[tuple[str, ...]]:
    """Folded texts (a prompt, or a prompt and its response) of the safe seeds that were written for a category."""
    seeds = yaml.safe_load(assets.asset(f"taxonomy/seeds/{code}.yaml").read_text(encoding="utf-8"))
    pairs = [(row["prompt"], row["response"]) for row in seeds.get("responses") or () if row["label"] == "safe"]
    return {tuple(map(folded, texts)) for texts in [*((text,) for text in seeds["safe"]), *pairs]}


def folded(text: str) -> str:
    return " ".join(text.split()).lower()


def key(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(folded, texts))


def reason(row: Mapping[str, Any], codes: frozenset[str], near: Mapping[tuple[str, ...], str]) -> str | None:
    """Why a row may not be learnt from, None if it may."""
    if row["label"] == "unsafe":
        known = set(row["categories"] or ()) | set(row["undecided"] or ())
        if not row["categories_known"] or not row["categories"]:
            return "unsafe, category unknown"
        return "violates a held-out category" if known & codes else None
    seed = row["source"].startswith("seed_") and key(message["content"] for message in row["messages"]) in near
    return "safe near-miss of a held-out category" if seed else None


def make(folder: Path, data: Path, rules: Policy, without: Sequence[str]) -> None:
    """Writes the reduced data to `folder`/data and the reduced policy to `folder`/policy.yaml."""
    codes = frozenset(without)
    reduced = dataclasses.replace(rules.without(without), id=f"{rules.id}-reduced")
    near = {texts: code for code in without for texts in near_misses(code)}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(policy.dump(reduced), encoding="utf-8")
    for split in ("train", "dev"):
        table = pq.read_table(data / f"{split}.parquet")
        reasons = [reason(row, codes, near) for row in table.to_pylist()]
        pq.write_table(table.filter([why is None for why in reasons]), folder / "data" / f"{split}.parquet")
        print(f"{split}: {reasons.count(None)} of {len(reasons)} rows stay; {dict(Counter(filter(None, reasons)))}")
    paths = f"--policy {folder}/policy.yaml --data {folder}/data --base minilm --out {folder}/run"
    print(f"train it:  guard train encoder {paths}")
    print(f"then:      python benchmarks/held_out_categories.py score {folder}/run")


@dataclass(frozen=True)
class Rows:
    """The rows to measure on, with what each is good for. `seen`: in the train split, so a reference guard knows it."""

    examples: tuple[Example, ...]
    near: tuple[str | None, ...]  # the held-out category whose safe near-miss a row is

    @property
    def seen(self) -> Bools:
        return np.array([example.split == "train" for example in self.examples])

    @property
    def safe(self) -> Bools:
        return np.array([example.label == "safe" for example in self.examples])

    def violating(self, code: str) -> Bools:
        return np.array([code in (example.categories or ()) for example in self.examples])

    def fresh(self) -> Rows:
        """The rows of dev and test."""
        kept = np.flatnonzero(~self.seen)
        return Rows(tuple(self.examples[at] for at in kept), tuple(self.near[at] for at in kept))


def rows_of(data: Path, codes: Sequence[str]) -> Rows:
    """All rows of the dev and test splits that are safe or of known category, and those of train that were held out."""
    near = {texts: code for code in codes for texts in near_misses(code)}
    found: list[tuple[Example, str | None]] = []
    for split in SPLITS:
        for example in load_examples(data, split):
            seed = example.source.startswith("seed_") and example.label == "safe"
            twin = near.get(key(message.content for message in example.conversation.messages)) if seed else None
            held_out = twin is not None or bool(set(codes) & (example.categories or frozenset()))
            if held_out or (split != "train" and (example.label == "safe" or example.categories)):
                found.append((example, twin))
    return Rows(tuple(example for example, _ in found), tuple(twin for _, twin in found))


def scores_of(guard: Moderator, rules: Policy, conversations: Sequence[Conversation]) -> dict[str, Floats]:
    """Log-odds of each row under each category alone, by code, and under the whole policy as "all"; not calibrated.

    The guard scores each category by itself, so that one pass gives all of them; a sample is scored alone to prove it.
    """
    plain = dataclasses.replace(guard, calibration=Calibration())
    found: dict[str, list[float]] = {code: [] for code in (*rules.codes, "all")}
    for start in range(0, len(conversations), 512):
        for verdict in plain.moderate(conversations[start : start + 512], rules):
            found["all"].append(log_odds(verdict.p_unsafe))
            for code, p in verdict.categories.items():
                found[code].append(log_odds(p))
    code = rules.codes[-1]
    alone = plain.moderate(conversations[:CHECKED], rules.without(rules.codes[:-1]))
    apart = max(abs(log_odds(v.p_unsafe) - z) for v, z in zip(alone, found[code], strict=False))
    if apart > 1e-2:
        raise SystemExit(f"{code} alone differs from {code} among others by {apart:.3f}; score each policy apart")
    return {name: np.array(values) for name, values in found.items()}


def area(scores: Floats, unsafe: Bools, safe: Bools) -> dict[str, Any] | None:
    """AUROC of unsafe against safe rows with its 95 % interval and the row counts; None where a side has no rows."""
    chosen = unsafe | safe
    value = auroc(unsafe[chosen], scores[chosen])
    if value is None:
        return None
    between = intervals.of_rankings(unsafe[chosen], scores[chosen])["auroc"]
    return {"auroc": round(value, 4), "interval": [round(end, 3) for end in between or ()],
            "unsafe": int(unsafe.sum()), "safe": int(safe.sum())}  # fmt: skip


def measured(code: str, rows: Rows, scores: Mapping[str, Floats]) -> dict[str, Any]:
    """A guard on one held-out category."""
    unsafe = rows.violating(code)
    plain = rows.safe & ~rows.seen
    twins = np.array([twin == code for twin in rows.near])
    others = ~rows.safe & ~rows.violating(code) & ~rows.seen
    seeds = unsafe & np.array([example.source.startswith("seed_") for example in rows.examples])
    found = {
        "alone": area(scores[code], unsafe, plain),
        "whole_policy": area(scores["all"], unsafe, plain),
        "alone_seeds_against_near_misses": area(scores[code], seeds, twins),
        "alone_against_other_harm": area(scores[code], unsafe, others),
    }
    if "known" in scores:
        found["known_categories_only"] = area(scores["known"], unsafe, plain)
    return found


def score(run: Path, reference: Path | None, data: Path, rules: Policy, threads: int | None) -> dict[str, Any]:
    own = policy.load(run / "policy.yaml")
    codes = [code for code in rules.codes if code not in own.codes]
    if not codes or own.codes != rules.without(codes).codes:
        raise SystemExit(f"{run}: its policy is not {rules.id!r} less some categories; give a run trained by `make`")
    rows = rows_of(data, codes)
    fresh = rows.fresh()
    trained, known = open_guard(run, threads), open_guard(reference, threads)
    ours = scores_of(trained, rules, [example.conversation for example in rows.examples])
    kept = np.array([ours[code] for code in own.codes])
    ours["known"] = np.logaddexp.reduce(kept, axis=0)  # the policy that the run was trained for
    theirs = scores_of(known, rules, [example.conversation for example in fresh.examples])
    ours_fresh = {name: values[~rows.seen] for name, values in ours.items()}
    return {
        "command": "python benchmarks/held_out_categories.py score RUN",
        "without": codes,
        "run": trained.engine.info.digest,
        "reference": known.engine.info.digest,
        "safe_rows": int((rows.safe & ~rows.seen).sum()),
        "categories": {
            code: {
                "name": rules.category(code).name,
                "held_out": measured(code, rows, ours),
                "held_out_fresh": measured(code, fresh, ours_fresh),
                "reference_fresh": measured(code, fresh, theirs),
            }
            for code in codes
        },
        "cores": core_count(),
    }


def figure(found: Mapping[str, Any] | None) -> str:
    return "–" if found is None else f"{found['auroc']:.3f} ({found['unsafe']})"


def shown(result: Mapping[str, Any]) -> str:
    heads = {"alone": "alone", "whole_policy": "in all 14", "known_categories_only": "known only",
             "alone_seeds_against_near_misses": "near-misses", "alone_against_other_harm": "other harm"}  # fmt: skip
    lines = ["AUROC (unsafe rows); `fresh`: rows of dev and test only, which the reference guard was not trained on"]
    lines.append(f"{'':32}" + "".join(f"{head:>15}" for head in heads.values()))
    for code, of_code in result["categories"].items():
        for name in ("held_out", "held_out_fresh", "reference_fresh"):
            cells = "".join(f"{figure(of_code[name].get(key)):>15}" for key in heads)
            lines.append(f"{code:5}{name:27}{cells}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "score"))
    parser.add_argument("folder", type=Path, help="make: where to write; score: a run's folder or a bundle")
    parser.add_argument("--without", nargs="+", default=list(WITHOUT), help="make: the categories to hold out")
    parser.add_argument("--data", type=Path, default=Path("data/default"), help="the whole data")
    parser.add_argument("--policy", default="mlcommons", help="the whole policy")
    parser.add_argument("--reference", type=Path, help="score: a bundle or run trained on the whole data")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    rules = policy.load(options.policy)
    if options.what == "make":
        make(options.folder, options.data, rules, options.without)
        return
    result = score(options.folder, options.reference, options.data, rules, options.threads)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(shown(result))


if __name__ == "__main__":
    main()
