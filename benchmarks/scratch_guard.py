"""The guard of the recipe `scratch` beside a bag of words: how well each ranks the dev rows, and who obeys the policy.

python benchmarks/scratch_guard.py RUN [--data data/default]

RUN is the folder of a finished `guard train scratch`. Both learnt from the same training rows with the same weights,
and both rank the same dev rows. The bag of words is TF-IDF with a logistic regression, its best regularisation of three
on those very rows, which favours it.

Policy dropping: dev rows that violate one known category, or more, are scored again under the policy without those
categories, where they are safe, and under a policy that lacks as many others, where they are not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import publish
from readme import figure, table
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForCausalLM

from guard import policy
from guard.conversation import Example
from guard.data.augment.policy_views import decides
from guard.data.examples import load_examples
from guard.evaluate.metrics import Floats, auprc, auroc, best_f1
from guard.policy import Policy
from guard.prompt import Prompt
from guard.train.verdicts import read_verdicts

RESULTS = Path(__file__).parent / "results" / "scratch_guard.json"
PAGE = Path(__file__).parent.parent / "docs" / "training.md"
REGULARISATION = (1.0, 4.0, 16.0)  # scikit-learn's C


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="default: the run's own")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    record = json.loads((given.run / "run.json").read_text(encoding="utf-8"))
    config = record["config"]
    data = given.data or Path(config["data"])
    rules = policy.load(given.run / "policy.yaml")
    train, dev = (weighed(data, split, rules, config) for split in ("train", "dev"))

    prompt = Prompt.load(given.run / "tokenizer.json", config["max_tokens"], config["overlap"], config["detail"])
    model: Any = AutoModelForCausalLM.from_pretrained(given.run / "model", attn_implementation="eager")
    guard = Guard(model.eval(), prompt)
    odds = guard.odds(dev, rules)
    results: dict[str, Any] = {
        "run": {key: record[key] for key in ("parameters", "data", "policy", "commit", "seed", "metrics")},
        "train_rows": len(train),
        "dev_rows": len(dev),
        "guard": by_kind(dev, odds),
    }
    for name, most in (("bag_of_words", 1), ("bag_of_words_and_pairs", 2)):
        results[name] = baseline(train, dev, most)
    results["policy_dropping"] = dropping(guard, dev, rules, odds)
    given.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    publish(PAGE, "scratch", markdown(results))
    print(markdown(results))


def markdown(results: dict[str, Any]) -> str:
    """How each ranks the dev rows, and what the guard does when categories leave its policy."""
    names = {
        "guard": f"the guard, {results['run']['parameters'] / 1e6:.1f} million parameters",
        "bag_of_words": "TF-IDF of words, logistic regression",
        "bag_of_words_and_pairs": "TF-IDF of words and pairs, logistic regression",
    }
    parts = {"all": "all", "prompts_and_responses": "prompts, responses"}
    ranked = [
        (name, part, str(found["rows"]), *(figure(found[key]) for key in ("auprc", "auroc", "best_f1")))
        for key, name in names.items()
        for kind, part in parts.items()
        for found in [results[key][kind]]
    ]
    dropped = results["policy_dropping"]
    return "\n\n".join(
        [
            f"`python benchmarks/scratch_guard.py RUN`, {results['train_rows']} training rows:",
            table(("", "dev rows", "number", "AUPRC", "AUROC", "best F1"), *ranked),
            f"Of {dropped['rows']} dev rows of known categories that it flags, "
            f"{figure(dropped['still_flagged_without_own_categories'])} stay flagged when those categories leave the "
            f"policy, {figure(dropped['still_flagged_without_as_many_others'])} when as many others do.",
        ]
    )


def weighed(data: Path, split: str, rules: Policy, config: dict[str, Any]) -> list[Example]:
    """The rows that the run learnt from, or was judged on, with its weights."""
    return [
        dataclasses.replace(example, weight=weight)
        for example in load_examples(data, split, rules, config["columns"])
        if (weight := example.weight * config["source_weights"].get(example.source, 1.0)) and decides(example, rules)
    ]


@dataclasses.dataclass(frozen=True)
class Guard:
    """The run's model behind conversations."""

    model: Any
    prompt: Prompt

    def odds(self, examples: Sequence[Example], rules: Policy) -> Floats:
        """[examples]: the log-odds of the worst window of each under the policy."""
        windows = [self.prompt.suffixes(example.conversation, rules)[0] for example in examples]
        prefix = self.prompt.prefix_ids(rules)
        prompts = [(*prefix, *suffix.ids) for found in windows for suffix in found]
        read = read_verdicts(self.model, self.prompt, rules, prompts).odds
        starts = np.cumsum([0, *map(len, windows)])[:-1]
        return np.asarray(np.maximum.reduceat(read, starts))


def by_kind(dev: Sequence[Example], scores: Floats) -> dict[str, dict[str, float | None]]:
    """AUPRC, AUROC and best F1 of all rows, of those that a guard is for, and of each kind."""
    kinds = np.array([example.kind for example in dev])
    parts = {"all": kinds != "", "prompts_and_responses": kinds != "text"}
    parts |= {kind: kinds == kind for kind in sorted(set(kinds))}
    found: dict[str, dict[str, float | None]] = {}
    labels = np.array([example.label == "unsafe" for example in dev])
    for name, chosen in parts.items():
        best = best_f1(labels[chosen], scores[chosen])
        found[name] = {
            "rows": int(chosen.sum()),
            "auprc": auprc(labels[chosen], scores[chosen]),
            "auroc": auroc(labels[chosen], scores[chosen]),
            "best_f1": best.value if best else None,
        }
    return found


def baseline(train: Sequence[Example], dev: Sequence[Example], most: int) -> dict[str, Any]:
    """TF-IDF of words (and pairs of neighbours) and a logistic regression."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, most))
    seen = words.fit_transform(map(said, train))
    new = words.transform(map(said, dev))
    labels = [example.label == "unsafe" for example in train]
    weights = [example.weight for example in train]
    tried = {}
    for strength in REGULARISATION:
        fitted = LogisticRegression(C=strength, max_iter=500).fit(seen, labels, weights)
        tried[strength] = by_kind(dev, fitted.decision_function(new))
    best = max(REGULARISATION, key=lambda strength: tried[strength]["all"]["auprc"] or 0.0)
    return {"features": seen.shape[1], "C": best, **tried[best]}


def said(example: Example) -> str:
    """A conversation as one text, as the guard reads it: with its context and who speaks."""
    return "\n".join(f"{message.role}: {message.content}" for message in example.conversation.messages)


def dropping(guard: Guard, dev: Sequence[Example], rules: Policy, odds: Floats) -> dict[str, Any]:
    """What becomes of the rows that are flagged at the best F1 when categories leave the policy."""
    labels = np.array([example.label == "unsafe" for example in dev])
    best = best_f1(labels, odds)
    assert best is not None  # there are rows of both labels, or no run would have ended
    known = [
        index
        for index, example in enumerate(dev)
        if example.label == "unsafe" and example.categories and odds[index] >= best.threshold
    ]
    counts = {"own_left": 0, "others_left": 0}
    shifts: dict[str, list[float]] = {name: [] for name in counts}
    for index in known:
        example = dev[index]
        own = [code for code in rules.codes if code in (example.categories or ())]
        others = [code for code in rules.codes if code not in own]
        drawn = random.Random(example.id).sample(others, min(len(own), len(others) - 1))
        for name, gone in (("own_left", own), ("others_left", drawn)):
            [z] = guard.odds([example], rules.without(gone))
            counts[name] += bool(z >= best.threshold)
            shifts[name].append(z - odds[index])
    return {
        "threshold": best.threshold,
        "rows": len(known),
        "still_flagged_without_own_categories": counts["own_left"] / len(known),
        "still_flagged_without_as_many_others": counts["others_left"] / len(known),
        "median_shift_of_log_odds_without_own": float(np.median(shifts["own_left"])),
        "median_shift_of_log_odds_without_others": float(np.median(shifts["others_left"])),
    }


if __name__ == "__main__":
    main()
