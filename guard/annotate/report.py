"""The report of an annotation job: an account of every row, the judge's consistency, and the cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from guard.annotate.job import Job
from guard.annotate.labels import LabelTask
from guard.llm.completions import Usage

_PAIRS, _CATEGORY = "pairs dropped: ", "category "


def report(
    job: Job,
    settings: Mapping[str, Any],
    statuses: Counter[str],
    reasons: Mapping[str, Counter[str]],
    counts: Counter[str],
    usage: Mapping[str, Usage],
) -> dict[str, Any]:
    """The report as JSON data; read = kept + dropped + broken + failed. usage: by model.

    swap_consistency: the share of comparisons (rows with several votes) with the same result in both orders, among
    those that could be parsed. first_position_share: how often the answer in first position was preferred; 0.5 without
    position bias.
    """
    result: dict[str, Any] = {
        "settings": dict(settings),
        "read": statuses.total(),
        **{status: statuses[status] for status in ("kept", "dropped", "broken", "failed")},
        "reasons": {status: dict(sorted(counts.items())) for status, counts in reasons.items()},
        "drop_rate": _share(statuses["dropped"], statuses["kept"]),
        "judgements": {
            "asked": counts["judgements"],
            "reminded": counts["reminded"],
            "unparsed": counts["unparsed"],
        },
        "swap_consistency": _share(counts["unanimous"], counts["disagreed"]),
    }
    if isinstance(job.task, LabelTask):
        if job.task.votes == 1:
            result["swap_consistency"] = None
        result["labels"] = {label: counts[label] for label in ("safe", "unsafe")}
        result["categories"] = _with_prefix(counts, _CATEGORY)
    else:
        result["first_position_share"] = _share(counts["preferred first"], counts["preferred second"])
        result["pairs"] = {"kept": counts["pairs kept"], "dropped": _with_prefix(counts, _PAIRS)}
        result["answers_left_out"] = counts["answers cut or empty"]
    costs = []
    result["usage"] = {}
    for name, used in usage.items():
        model = job.judge if name == "judge" else job.generator
        assert model is not None, "This is a bug."
        costs.append(0.0 if used.requests == 0 else used.cost(model.price_in, model.price_out))
        hits = max(0, counts[f"{name} answers"] - used.requests)
        result["usage"][name] = {**asdict(used), "cache_hits": hits, "cost": costs[-1]}
    result["cost"] = None if None in costs else round(sum(cost for cost in costs if cost is not None), 6)
    return result


def _share(part: int, rest: int) -> float | None:
    return round(part / (part + rest), 6) if part + rest else None


def _with_prefix(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): counts[name] for name in sorted(counts) if name.startswith(prefix)}
