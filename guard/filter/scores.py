"""The scores of a conversation, apart from thresholds, and what thresholds make of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guard.conversation import Target
from guard.errors import ConfigError, InvalidInput
from guard.jobs.rows import Kind
from guard.moderator import GuardInfo
from guard.policy import Policy
from guard.strict_json import parse
from guard.verdict import Outcome, Verdict, decide, natural, to_json

ADDED: Mapping[str, Kind] = {
    "guard_outcome": "text",
    "guard_p_unsafe": "number",
    "guard_flagged": "texts",
    "guard_categories": "object",
    "guard_coverage": "object",
    "guard_model": "text",
    "guard_policy": "text",
}
PARTS = "guard_parts"  # the column of the parts, where rows may have several
_WORSE = {Outcome.SAFE: 0, Outcome.INCOMPLETE: 1, Outcome.UNSAFE: 2}
Cuts = Mapping[Target, tuple[float, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities, rounded as they are written, so that they decide the same way when they are read again.

    coverage: as in `guard.verdict.to_json`. complete: whether everything was judged.
    """

    target: Target
    p_unsafe: float
    categories: Mapping[str, float]
    coverage: Mapping[str, Any]
    complete: bool


def scores_of(verdict: Verdict) -> Scores:
    """Categories that are watched and not enforced count for nothing."""
    plain = to_json(verdict)
    watched = () if verdict.monitor is None else verdict.monitor.codes
    categories = {code: p for code, p in plain["categories"].items() if code not in watched}
    return Scores(verdict.target, round(verdict.p_enforced, 6), categories, plain["coverage"], verdict.complete)


def as_json(scores: Scores) -> dict[str, Any]:
    return {**dataclasses.asdict(scores), "target": scores.target.value}


def from_json(value: Mapping[str, Any]) -> Scores:
    """InvalidInput where the value was not made by `as_json`."""
    try:
        target, p, complete = Target(value["target"]), float(value["p_unsafe"]), bool(value["complete"])
        categories = {str(code): float(each) for code, each in value["categories"].items()}
        return Scores(target, p, categories, dict(value["coverage"]), complete)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput("the scores of the row are damaged; score the rows again") from None


def cuts_of(info: GuardInfo, threshold: float | None) -> Cuts:
    """The thresholds of a guard; `threshold` replaces that of the verdict."""
    if threshold is not None and not 0 < threshold < 1:
        raise ConfigError(f"threshold must be between 0 and 1 (got {threshold})")
    return {
        target: (overall if threshold is None else threshold, each)
        for target, (overall, each) in info.thresholds.items()
    }


def scored_by(policy: Policy) -> str:
    """The digest of what scores depend on: the policy without its thresholds."""
    categories = tuple(dataclasses.replace(each, threshold=None) for each in policy.categories)
    return dataclasses.replace(policy, threshold=None, categories=categories).digest


def decided(scores: Scores, cuts: Cuts) -> tuple[Outcome, tuple[str, ...]]:
    """The outcome and the flagged codes."""
    overall, each = cuts[scores.target]
    return decide(scores.p_unsafe, overall, scores.categories, each, scores.complete)


def added_columns(
    parts: Sequence[tuple[str, Scores]], cuts: Cuts, model: str, policy: str, several: bool
) -> dict[str, Any]:
    """The columns of a row by its parts: of the worst one, but all flagged codes and each category's highest score.

    several: add the parts themselves.
    """
    decisions = [decided(scores, cuts) for _, scores in parts]
    worst = max(range(len(parts)), key=lambda index: (_WORSE[decisions[index][0]], parts[index][1].p_unsafe))
    categories: dict[str, float] = {}
    for _, scores in parts:
        for code, p in scores.categories.items():
            categories[code] = max(p, categories.get(code, 0.0))
    coverage = {
        name: sum(scores.coverage[name] for _, scores in parts) for name in ("tokens_seen", "tokens_total", "windows")
    }
    columns: dict[str, Any] = {
        "guard_outcome": decisions[worst][0].value,
        "guard_p_unsafe": parts[worst][1].p_unsafe,
        "guard_flagged": sorted({code for _, flagged in decisions for code in flagged}, key=natural),
        "guard_categories": categories,
        "guard_coverage": {
            **coverage,
            "worst": parts[worst][1].coverage["worst"],
            "complete": all(scores.complete for _, scores in parts),
        },
        "guard_model": model,
        "guard_policy": policy,
    }
    if several:
        columns[PARTS] = [
            {"part": name, "outcome": outcome.value, "flagged": list(flagged), **as_json(scores)}
            for (name, scores), (outcome, flagged) in zip(parts, decisions, strict=True)
        ]
    return columns


def scores_in(row: Mapping[str, Any], names: Sequence[tuple[str, Target]], several: bool) -> list[Scores]:
    """The scores that an earlier run added to a row with these parts (name, target).

    InvalidInput where they are damaged or those of other parts.
    """
    if several:
        written = _object(row[PARTS])
        if not isinstance(written, list) or [each.get("part") for each in written] != [name for name, _ in names]:
            raise InvalidInput("the row was scored in other parts; give the columns and turns of that run")
        return [from_json(each) for each in written]
    coverage = _object(row["guard_coverage"])
    [(_, target)] = names
    complete = coverage.pop("complete", None) if isinstance(coverage, dict) else None
    value = {
        "target": target.value,
        "p_unsafe": row["guard_p_unsafe"],
        "categories": _object(row["guard_categories"]),
        "coverage": coverage,
        "complete": complete,
    }
    return [from_json(value)]


def _object(value: Any) -> Any:
    """A cell of kind `object`, which is JSON text where the format has no objects."""
    return parse(value) if isinstance(value, str) else value
