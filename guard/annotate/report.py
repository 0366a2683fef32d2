"""What a judging job reports: where every row went, how far the judge can be trusted, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from guard.annotate.job import Job
from guard.annotate.labels import Labelling
from guard.llm.completions import Usage

_PAIRS, _CATEGORY = "pairs dropped: ", "category "


def report(
    job: Job,
    settings: Mapping[str, Any],
    fates: Counter[str],
    reasons: Mapping[str, Counter[str]],
    counts: Counter[str],
    usage: Mapping[str, Usage],
) -> dict[str, Any]:
    """The report as JSON data; read = kept + dropped + broken + failed. usage: of each model that was asked.

    swap_consistency: the share of comparisons (rows of several votes) that came out alike in both orders, among those
    that could be read. first_position_share: how often the answer that came first was preferred, .5 without a bias.
    """
    told: dict[str, Any] = {
        "settings": dict(settings),
        "read": fates.total(),
        **{fate: fates[fate] for fate in ("kept", "dropped", "broken", "failed")},
        "reasons": {fate: dict(sorted(found.items())) for fate, found in reasons.items()},
        "drop_rate": _share(fates["dropped"], fates["kept"]),
        "judgements": {
            "asked": counts["judgements"],
            "reminded": counts["reminded"],
            "unparsed": counts["unparsed"],
        },
        "swap_consistency": _share(counts["unanimous"], counts["disagreed"]),
    }
    if isinstance(job.rules, Labelling):
        if job.rules.votes == 1:
            told["swap_consistency"] = None
        told["labels"] = {label: counts[label] for label in ("safe", "unsafe")}
        told["categories"] = _named(counts, _CATEGORY)
    else:
        told["first_position_share"] = _share(counts["preferred first"], counts["preferred second"])
        told["pairs"] = {"kept": counts["pairs kept"], "dropped": _named(counts, _PAIRS)}
        told["answers_left_out"] = counts["answers cut or empty"]
    costs = []
    told["usage"] = {}
    for name, spent in usage.items():
        model = job.judge if name == "judge" else job.generator
        assert model is not None, "This is a bug."
        costs.append(0.0 if spent.requests == 0 else spent.cost(model.price_in, model.price_out))
        hits = max(0, counts[f"{name} answers"] - spent.requests)
        told["usage"][name] = {**asdict(spent), "cache_hits": hits, "cost": costs[-1]}
    told["cost"] = None if None in costs else round(sum(cost for cost in costs if cost is not None), 6)
    return told


def _share(part: int, rest: int) -> float | None:
    return round(part / (part + rest), 6) if part + rest else None


def _named(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): counts[name] for name in sorted(counts) if name.startswith(prefix)}
