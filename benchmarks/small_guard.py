"""A causal guard beside the shipped one: quality by kind of text, alone and together, and whether it obeys its policy.

    python benchmarks/small_guard.py BUNDLE DATA [--rows 400] [--split test] [--threads 1]

BUNDLE is a guard, such as `small`; DATA a `guard data build` folder. Rows are English, drawn at random from one split,
so many of each kind. `together` is the mean of both guards' calibrated log-odds. Costs are CPU milliseconds a text.

Obedience: rows that the guard flags and whose categories are known are judged again under its policy without these
categories, which makes them safe, and without as many others, which does not. Policies that no training row has
(`rules-development`) say how it takes rules in words.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from guards import core_count

from guard.conversation import Conversation, Example
from guard.data.dataset.examples import load_examples, load_rules
from guard.metrics import intervals
from guard.metrics.classification import Bools, Floats, auprc, auroc
from guard.moderator import Moderator, open_moderator
from guard.policy import Policy
from guard.train.augment.policy_views import decides
from guard.verdict import Outcome, Verdict, log_odds

RESULTS = Path(__file__).parent / "results" / "small_guard.json"
KINDS = ("prompt", "response", "text")
SEED = 7


def judged(guard: Moderator, asked: Sequence[tuple[Conversation, Policy]]) -> list[Verdict]:
    """The verdicts in order; a policy's prefix is computed once."""
    by_policy: dict[Policy, list[int]] = defaultdict(list)
    for index, (_, policy) in enumerate(asked):
        by_policy[policy].append(index)
    found: dict[int, Verdict] = {}
    for policy, places in by_policy.items():
        verdicts = guard.moderate_each([asked[place][0] for place in places], policy=policy)
        for place, verdict in zip(places, verdicts, strict=True):
            if isinstance(verdict, Exception):
                raise verdict
            found[place] = verdict
    return [found[place] for place in range(len(asked))]


def is_unsafe(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.UNSAFE


def quality(labels: Bools, odds: Floats) -> dict[str, Any]:
    between = intervals.of_rankings(labels, odds)["auprc"]
    return {"auprc": auprc(labels, odds), "auprc_interval": between, "auroc": auroc(labels, odds)}


def by_kind(
    guards: dict[str, Moderator], rows: Sequence[Example], rules: Policy
) -> tuple[dict[str, Any], list[Verdict]]:
    """The quality and the cost of each guard and of both together, and the last guard's verdicts."""
    odds: dict[str, Floats] = {}
    cost: dict[str, float] = {}
    verdicts: list[Verdict] = []
    for name, guard in guards.items():
        begun = time.process_time()
        verdicts = judged(guard, [(row.conversation, rules) for row in rows])
        cost[name] = 1e3 * (time.process_time() - begun) / len(rows)
        odds[name] = np.array([log_odds(verdict.p_unsafe) for verdict in verdicts])
    odds["together"] = np.mean(list(odds.values()), axis=0)
    cost["together"] = sum(cost.values())
    labels = np.array([row.label == "unsafe" for row in rows])
    result: dict[str, Any] = {"rows": len(rows), "unsafe": int(labels.sum()), "cpu_ms": cost}
    for kind in (*KINDS, "all"):
        mine = np.array([kind in ("all", row.kind) for row in rows])
        result[kind] = {name: quality(labels[mine], each[mine]) for name, each in odds.items()}
    return result, verdicts


def obedience(
    guard: Moderator, rows: Sequence[Example], verdicts: Sequence[Verdict], rules: Policy, most: int
) -> dict[str, Any]:
    """Of flagged rows the share that becomes safe without their own categories, and without as many others."""
    rng = random.Random(SEED)
    flagged = [
        row
        for row, verdict in zip(rows, verdicts, strict=True)
        if is_unsafe(verdict) and row.label == "unsafe" and row.categories and row.categories <= set(rules.codes)
    ]
    flagged = rng.sample(flagged, min(most, len(flagged)))
    others: dict[frozenset[str], frozenset[str]] = {}  # the same for the same categories: few policies, few prefixes
    own, control = [], []
    for row in flagged:
        codes = frozenset(row.categories or ())
        rest = [code for code in rules.codes if code not in codes]
        without = others.setdefault(codes, frozenset(rng.sample(rest, min(len(codes), len(rest) - 1))))
        own.append((row.conversation, rules.without(codes)))
        control.append((row.conversation, rules.without(without)))
    safe = [float(np.mean([not is_unsafe(verdict) for verdict in judged(guard, asked)])) for asked in (own, control)]
    return {"rows": len(flagged), "safe_without_own": safe[0], "safe_without_others": safe[1]}


def rules_in_words(guards: dict[str, Moderator], data: Path, most: int) -> dict[str, Any]:
    """AUROC on rows of policies that no training row has, over all rows."""
    pairs = load_rules(data, "development")
    by_rule: dict[Policy, list[tuple[Example, Policy]]] = defaultdict(list)
    for pair in pairs:
        by_rule[pair[1]].append(pair)
    rng = random.Random(SEED)
    rules = sorted(by_rule, key=lambda rule: rule.digest)
    rng.shuffle(rules)
    chosen: list[tuple[Example, Policy]] = []
    for rule in rules:
        if len(chosen) >= most:
            break
        chosen += rng.sample(by_rule[rule], min(25, len(by_rule[rule])))
    labels = np.array([example.label == "unsafe" for example, _ in chosen])
    result: dict[str, Any] = {"rows": len(chosen), "unsafe": int(labels.sum()), "auroc": {}}
    odds: dict[str, Floats] = {}
    for name, guard in guards.items():
        verdicts = judged(guard, [(example.conversation, rule) for example, rule in chosen])
        odds[name] = np.array([log_odds(verdict.p_unsafe) for verdict in verdicts])
        result["auroc"][name] = auroc(labels, odds[name])
    result["rules"] = len({rule.digest for _, rule in chosen})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=400, help="of each kind")
    parser.add_argument(
        "--rules", type=int, default=400, help="rows of rules in words; takes a bundle with --head full"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    guards = {
        "default": open_moderator(threads=given.threads),
        "causal": open_moderator(given.bundle, threads=given.threads),
    }
    rules = guards["causal"].policy
    rng = random.Random(SEED)
    known = [
        row
        for row in load_examples(given.data, given.split, rules)
        if row.language == "en" and row.weight > 0 and decides(row, rules)
    ]
    rows = []
    for kind in KINDS:
        of_kind = [row for row in known if row.kind == kind]
        rows += rng.sample(of_kind, min(given.rows, len(of_kind)))
    found, verdicts = by_kind(guards, rows, rules)
    options = f"--rows {given.rows} --rules {given.rules} --split {given.split}"
    report: dict[str, Any] = {
        "command": f"python benchmarks/small_guard.py BUNDLE DATA {options}",
        "model": guards["causal"].engine.info.digest,
        "cores": core_count(),
        "split": given.split,
        "quality": found,
    }
    _write(given.out, report)  # the rest takes long
    report["obedience"] = obedience(guards["causal"], rows, verdicts, rules, given.rows)
    if given.rules:
        report["rules_in_words"] = rules_in_words(guards, given.data, given.rules)
    _write(given.out, report)
    print(json.dumps(report, indent=2))


def _write(path: Path, report: dict[str, Any]) -> None:
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
