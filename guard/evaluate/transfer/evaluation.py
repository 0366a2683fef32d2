"""A transfer evaluation: every contestant on every fold, beside a bag of words and the ensembles."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from guard import policy as policies
from guard.data.dataset.examples import load_examples
from guard.digest import file_digest
from guard.errors import ConfigError
from guard.evaluate.transfer import bag_of_words
from guard.evaluate.transfer.config import TransferConfig
from guard.evaluate.transfer.folds import load_test, write_fold
from guard.evaluate.transfer.proxy import measure
from guard.evaluate.transfer.results import fold_metrics, mean_log_odds, summary
from guard.report.progress import progress_bar

BASELINE = "tf-idf"


def evaluate(config: TransferConfig, folds: Collection[str] = (), candidates: Collection[str] = ()) -> dict[str, Any]:
    """The numbers as JSON data. folds, candidates: only these (default: all). What was measured before is read back.

    ConfigError if there is no such fold or candidate, DataError or EngineError if a fold or a proxy cannot be made.
    """
    for kind, names, known in (("fold", folds, config.folds), ("candidate", candidates, config.candidates)):
        for name in names:
            if name not in known:
                raise ConfigError(f"no {kind} {name!r} in the configuration; allowed: {', '.join(known)}")
    rules = policies.load(config.policy)
    measured: dict[str, Any] = {}
    for name in folds or config.folds:
        folder = Path(config.out) / name
        rows = write_fold(config, name, folder / "data")
        test = load_test(config.folds[name], folder / "data", rules)
        labels = np.array([example.label == "unsafe" for example, _ in test])
        train = load_examples(folder / "data", "train", rules)
        odds = {BASELINE: bag_of_words.scores(train, [example.conversation for example, _ in test])}
        cost: dict[str, dict[str, float]] = {}
        for key in candidates or config.candidates:
            with progress_bar(f"{name}: {key}", len(test)) as bar:
                result = measure(
                    config.candidates[key], folder / "data", test, config.policy, rules, folder / key, bar.advance
                )
            odds[key] = result.log_odds
            cost[key] = {"train_s": result.train_s, "score_s": result.score_s}
        for key, members in config.ensembles.items():
            if all(member in odds for member in members):
                odds[key] = mean_log_odds([odds[member] for member in members])
        measured[name] = {
            "rows": rows,
            "unsafe": int(labels.sum()),
            "contestants": {key: fold_metrics(labels, each, config.recall) for key, each in odds.items()},
            "cpu": cost,
        }
    return {
        "data": file_digest(Path(config.data) / "train.parquet"),
        "policy": {"id": rules.id, "digest": rules.digest},
        "seed": config.seed,
        "recall": config.recall,
        "folds": measured,
        "summary": summary({name: fold["contestants"] for name, fold in measured.items()}),
    }
