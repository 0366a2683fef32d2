"""Breakdowns of the results on a set, as JSON data: by category, by length, by probability, and of refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from guard.evaluate.suite import Case
from guard.metrics import classification
from guard.policy import Policy
from guard.verdict import Verdict

_DIGITS = 6
Pairs = Sequence[tuple[Case, Verdict]]


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


SAFE = "safe"  # no category, in truth or verdict


def first_codes(pairs: Pairs, policy: Policy) -> dict[str, dict[str, int]]:
    """For each true code, and for safe rows, the counts of the verdicts' first codes (SAFE if not flagged).

    A row that violates several codes counts for each of them; unsafe rows of unknown category are not counted.
    """
    counts: dict[str, dict[str, int]] = {}
    for case, verdict in pairs:
        flagged = verdict.p_unsafe >= verdict.threshold and verdict.categories
        first = max(verdict.categories, key=lambda code: verdict.categories[code]) if flagged else SAFE
        true = [SAFE] if case.label == "safe" else [code for code in policy.codes if case.truth.get(code)]
        for code in true:
            row = counts.setdefault(code, {})
            row[first] = row.get(first, 0) + 1
    order = [*policy.codes, SAFE]
    return {
        true: {first: counts[true][first] for first in order if first in counts[true]}
        for true in order
        if true in counts
    }


def lengths(pairs: Pairs) -> list[dict[str, Any]]:
    """Recall and false alarms by characters of the judged message, in ranges [low, high)."""
    labels = np.array([case.label == "unsafe" for case, _ in pairs])
    flagged = np.array([verdict.p_unsafe >= verdict.threshold for _, verdict in pairs])
    characters = np.array([len(case.conversation.judged.content) for case, _ in pairs])
    return [
        {"low": part.low, "high": part.high, "confusion": asdict(part.confusion)}
        | {"recall": rounded(part.confusion.recall), "fpr": rounded(part.confusion.fpr)}
        for part in classification.by_length(labels, flagged, characters)
    ]


def reliability(pairs: Pairs) -> list[dict[str, Any]]:
    labels = np.array([case.label == "unsafe" for case, _ in pairs])
    p = np.array([verdict.p_unsafe for _, verdict in pairs])
    bins = classification.reliability(labels, p)
    return [{key: rounded(value) for key, value in asdict(part).items()} for part in bins]


def refusal(pairs: Pairs) -> dict[str, Any] | None:
    """The scores of the guard's p_refusal over rows whose answer is known to refuse or comply; None without such."""
    known = [(case.refusal, verdict.p_refusal) for case, verdict in pairs if case.refusal is not None]
    if not known:
        return None
    scored = [(label, p) for label, p in known if p is not None]
    counts: dict[str, Any] = {
        "rows": len(known),
        "refusals": sum(bool(label) for label, _ in known),
        "scored": len(scored),
    }
    labels, p = np.array([label for label, _ in scored], dtype=bool), np.array([p for _, p in scored], dtype=np.float64)
    f1 = classification.confusion(labels, p, 0.5).f1
    return counts | {
        "f1": rounded(f1),
        "auprc": rounded(classification.auprc(labels, p)) if scored else None,
        "auroc": rounded(classification.auroc(labels, p)) if scored else None,
    }
