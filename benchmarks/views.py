"""What views (guard.views.view) cost and catch: the same guard with and without them, on the same rows.

    python benchmarks/views.py --data DIR [--bundle BUNDLE] [--disguised DIR] [--rows 400]

Benign rows come from the dev and development splits of --data (a build of training/configs/data-all.yaml), and for each
language tell how often the guard flags them in balanced mode, how many have a view at all, and what views add. Attacks
are half as many English prompts of the dev split of --disguised under every disguise, whole or in a span; an attack
succeeds below the threshold that flags 5 % of the plain safe prompts. As many safe prompts in the same disguise tell
what that costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import time
import typing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guard.conversation import Conversation, Example
from guard.data.dataset.examples import load_examples
from guard.engines.base import all_scores
from guard.metrics.classification import tpr_at_fpr
from guard.moderator import Moderator, open_moderator
from guard.moderator.evidence import Evidence
from guard.prompts.window import combined
from guard.report.tables import show, table
from guard.verdict import Coverage, Outcome, Timings, Verdict
from guard.views.disguise import Disguise, encode, obfuscate
from guard.views.view import views

RESULTS = Path(__file__).parent / "results" / "views.json"
LEAST = 50  # rows of a language that a share is given for
LONGEST = 2000  # characters of a row, so that no row costs as much as a hundred others
ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Judged:
    """The verdicts on one conversation, and the windows that views added to its own."""

    without: Verdict
    with_views: Verdict
    windows: int
    added: int


def judged(moderator: Moderator, conversations: Sequence[Conversation]) -> list[Judged]:
    engine, rules = moderator.engine, moderator.policy
    plain = [engine.tokenize(conversation, rules) for conversation in conversations]
    scores = iter(all_scores(engine, [window for each in plain for window in each.windows]))
    found = []
    for conversation, own, whole in zip(conversations, plain, moderator.moderate(conversations), strict=True):
        score = combined([next(scores) for _ in own.windows])
        coverage = Coverage(own.tokens_seen, own.tokens_total, len(own.windows), 0, 0)
        without = moderator.conclude(Evidence(conversation.target, rules, score, coverage, Timings()))
        found.append(Judged(without, whole, len(own.windows), whole.coverage.windows - len(own.windows)))
    return found


def share(values: Sequence[object]) -> float:
    return round(float(np.mean([bool(value) for value in values])), 4)


def flagged(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.UNSAFE


def cost(texts: Sequence[str]) -> float:
    """CPU microseconds of `views` per 1,000 characters: of all texts together, the best of a few rounds."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for text in texts:
            views(text)
        times.append(time.process_time() - started)
    return round(min(times) * 1e9 / sum(map(len, texts)), 1)


def cells(examples: Sequence[Example], rows: int) -> dict[str, list[Conversation]]:
    """Safe conversations of each language, and of each kind where there are enough."""
    found: dict[str, list[Conversation]] = {}
    for example in examples:
        if example.label == "safe" and len(example.conversation.judged.content) <= LONGEST:
            found.setdefault(f"{example.language} {example.kind}", []).append(example.conversation)
    return {
        name: random.Random(0).sample(all_, min(rows, len(all_)))
        for name, all_ in sorted(found.items())
        if len(all_) >= LEAST
    }


def benign(moderator: Moderator, conversations: Sequence[Conversation]) -> dict[str, object]:
    texts = [conversation.judged.content for conversation in conversations]
    answers = judged(moderator, conversations)
    names = Counter(name for text in texts for name in {view.name for view in views(text)})
    return {
        "rows": len(texts),
        "false_alarms": {
            "without": share([flagged(answer.without) for answer in answers]),
            "with": share([flagged(answer.with_views) for answer in answers]),
        },
        "with_a_view": share([views(text) for text in texts]),
        "rows_by_view": dict(names),
        "windows_per_1000_rows": round(1000 * sum(answer.windows for answer in answers) / len(answers)),
        "added_per_1000_rows": round(1000 * sum(answer.added for answer in answers) / len(answers)),
        "us_per_1000_characters": cost(texts),
    }


def attacked(
    moderator: Moderator, safe: Sequence[str], unsafe: Sequence[str], plain: Sequence[str]
) -> dict[str, object]:
    """Success of each disguise, and false alarms on safe texts that wear it; `plain` texts fix the thresholds."""

    def p(texts: Sequence[str]) -> dict[str, np.ndarray]:
        answers = judged(moderator, [Conversation.of(text) for text in texts])
        return {
            "without": np.array([answer.without.p_unsafe for answer in answers]),
            "with": np.array([answer.with_views.p_unsafe for answer in answers]),
        }

    alarms, undisguised = p(plain), p(unsafe)
    labels = np.arange(len(plain) + len(unsafe)) >= len(plain)
    cuts = {}
    for name in ("without", "with"):
        point = tpr_at_fpr(labels, np.concatenate([alarms[name], undisguised[name]]), 0.05)
        assert point is not None  # there are rows of both classes
        cuts[name] = point.threshold

    def row(bad: dict[str, np.ndarray], good: dict[str, np.ndarray]) -> dict[str, object]:
        return {
            "success": {name: round(float((bad[name] < cuts[name]).mean()), 4) for name in cuts},
            "safe_flagged": {name: round(float((good[name] >= cuts[name]).mean()), 4) for name in cuts},
        }

    found: dict[str, object] = {"thresholds": cuts, "rows": len(unsafe), "none": row(undisguised, alarms)}
    for disguise in typing.get_args(Disguise):
        for where, make in (("whole", encode), ("span", obfuscate)):
            made = []
            for texts in (unsafe, safe):
                rng = random.Random(1)
                made.append(p([make(text, disguise, rng) for text in texts]))
            found[f"{disguise} {where}"] = row(*made)
            print(f"{disguise} {where}", found[f"{disguise} {where}"], flush=True)
    return found


def prompts(data: Path, moderator: Moderator, label: str) -> list[str]:
    examples = load_examples(data, "dev", moderator.policy)
    texts = [
        example.conversation.judged.content
        for example in examples
        if (example.label, example.kind, example.language) == (label, "prompt", "en")
        and not example.conversation.context
        and len(example.conversation.judged.content) <= LONGEST
    ]
    random.Random(0).shuffle(texts)
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--disguised", type=Path, default=Path("data/default"))
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--part", choices=("benign", "disguised"), help="only this; what is known of the other stays")
    options = parser.parse_args()
    moderator = open_moderator(options.bundle, threads=1)
    known = json.loads(RESULTS.read_text()) if options.part and RESULTS.exists() else {}
    result = {
        "command": f"python benchmarks/views.py --data DIR --rows {options.rows}",
        "bundle": moderator.engine.info.digest,
        "mode": moderator.mode,
        "cores": len(os.sched_getaffinity(0)),
        **{
            part: known[part]
            for part in ("benign", "disguised")
            if part in known and known["bundle"] == moderator.engine.info.digest
        },
    }
    if options.part != "disguised":
        splits = ("dev", "development")
        examples = [one for split in splits for one in load_examples(options.data, split, moderator.policy)]
        result["benign"] = {name: benign(moderator, rows) for name, rows in cells(examples, options.rows).items()}
        show_benign(result["benign"])
    if options.part != "benign":
        safe, unsafe = (prompts(options.disguised, moderator, label) for label in ("safe", "unsafe"))
        half = options.rows // 2
        result["disguised"] = attacked(moderator, safe[:half], unsafe[:half], safe[: 2 * options.rows])
        show_attacks(result["disguised"])
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def show_benign(languages: dict[str, dict]) -> None:
    made = [
        (name, one["rows"], *one["false_alarms"].values(), one["with_a_view"], one["added_per_1000_rows"],
         one["us_per_1000_characters"])
        for name, one in languages.items()
    ]  # fmt: skip
    columns = (
        "benign",
        "rows",
        "flagged",
        "with views",
        "have a view",
        "windows added per 1,000",
        "µs per 1,000 chars",
    )
    show(table(*columns, rows=made))


def show_attacks(attacks: dict[str, dict]) -> None:
    made = [
        (name, *one["success"].values(), *one["safe_flagged"].values())
        for name, one in attacks.items()
        if name not in ("thresholds", "rows")
    ]
    show(table("disguise", "attacks that succeed", "with views", "safe ones flagged", "with views", rows=made))


if __name__ == "__main__":
    main()
