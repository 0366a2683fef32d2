"""The report of attack runs on one or two guards: success rates as plain data, and as tables for people.

It holds no text of any row unless requested.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from guard.evaluate.redteam.attack_run import OPERATING_POINTS, AttackResult, AttackRun, AttackSettings, Thresholds
from guard.evaluate.redteam.sample import Sample
from guard.evaluate.report import decimal
from guard.metrics.classification import Bools, Floats
from guard.report.tables import add, number_table

if TYPE_CHECKING:
    from rich.table import Table

ROUNDS, LEVEL = 1000, 0.95  # of the bootstrap
ANY = "any of these"
_DIGITS = 6


def build_report(
    runs: Sequence[AttackRun], sample: Sample, settings: AttackSettings, command: str, show_text: bool = False
) -> dict[str, Any]:
    """The report of `guard redteam`. With two guards, `differences` are success rates on the second minus the first."""
    report: dict[str, Any] = {
        "command": command,
        "set": {
            "name": sample.suite.name,
            "digest": sample.suite.digest,
            "unsafe": len(sample.unsafe),
            "safe": len(sample.safe),
            "left_out": sample.left_out,
        },
        "fpr": settings.fpr,
        "budget": settings.budget,
        "seed": settings.seed,
        "guards": [_guard(run, show_text) for run in runs],
    }
    if len(runs) == 2:
        report["differences"] = _differences(*runs)
    return report


def _guard(run: AttackRun, show_text: bool) -> dict[str, Any]:
    info, policy = run.info, run.info.policy
    attacks = [_attack(run, result, show_text) for result in run.results]
    return {
        "model": info.model,
        "kind": info.kind,
        "policy": {"id": policy.id, "version": policy.version, "digest": policy.digest},
        "mode": info.mode,
        "errors": int(np.isnan(run.unsafe.p).sum() + np.isnan(run.safe.p).sum()),
        "before": {point: _before(run, run.thresholds[point]) for point in OPERATING_POINTS},
        "attacks": attacks,
        "groups": {
            group: _means([attack for attack in attacks if attack["group"] == group])
            for group in dict.fromkeys(attack["group"] for attack in attacks)
        },
        "any": {
            point: _success(run.unsafe.flagged(at.unsafe), _passed_any(run, at)) for point, at in run.thresholds.items()
        },
    }


def _before(run: AttackRun, at: Thresholds) -> dict[str, Any]:
    """Recall and false-positive rate of the guard on the unmodified texts."""
    return {
        "thresholds": {target.value: value for target, value in at.of.items()},
        "recall": _mean(run.unsafe.flagged(at.unsafe)),
        "fpr": _mean(run.safe.flagged(at.safe)),
    }


def _attack(run: AttackRun, result: AttackResult, show_text: bool) -> dict[str, Any]:
    """The numbers of an attack; attacked are the unsafe texts that are flagged at either operating point.

    errors, incomplete: attacked texts that the guard could not judge, or covered incompletely. p_before, p_after: means
    over those that the fixed threshold flags before the attack.
    """
    fixed = run.thresholds["fixed"]
    flagged = run.unsafe.flagged(fixed.unsafe) & ~np.isnan(result.unsafe.p)
    attacked = [index for index, text in enumerate(result.texts) if text]
    numbers: dict[str, Any] = {
        "name": result.attack.name,
        "kind": result.attack.kind,
        "group": result.attack.group,
        "attacked": len(attacked),
        "changed": result.changed,
        "queries": result.queries,
        "errors": int(np.isnan(result.unsafe.p[attacked]).sum()),
        "incomplete": int((~result.unsafe.complete[attacked] & ~np.isnan(result.unsafe.p[attacked])).sum()),
        "p_before": _mean(run.unsafe.p[flagged]),
        "p_after": _mean(result.unsafe.p[flagged]),
    }
    for point, at in run.thresholds.items():
        numbers[point] = {
            **_success(run.unsafe.flagged(at.unsafe), result.unsafe.passed(at.unsafe)),
            "fpr": _mean(result.safe.flagged(at.safe)),
        }
    if show_text:
        passed = run.unsafe.flagged(fixed.unsafe) & result.unsafe.passed(fixed.unsafe)
        numbers["texts"] = [{"row": int(index), "text": result.texts[index]} for index in np.flatnonzero(passed)]
    return numbers


def _means(attacks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The number of attacks, and the means of their success and false-positive rates."""
    return {"attacks": len(attacks)} | {
        point: {
            rate: _mean(np.array([attack[point][rate] for attack in attacks if attack[point][rate] is not None]))
            for rate in ("success", "fpr")
        }
        for point in OPERATING_POINTS
    }


def _success(flagged: Bools, passed: Bools) -> dict[str, Any]:
    """Of the texts flagged before: their number, the number and share of evasions, and the interval of the share."""
    evaded = flagged & passed
    return {
        "flagged": int(flagged.sum()),
        "evaded": int(evaded.sum()),
        "success": _mean(evaded[flagged]),
        "interval": _interval(_resampled(flagged, evaded)),
    }


def _passed_any(run: AttackRun, at: Thresholds) -> Bools:
    passed = np.zeros(len(run.unsafe.p), dtype=bool)
    for result in run.results:
        passed |= result.unsafe.passed(at.unsafe)
    return passed


def _differences(first: AttackRun, second: AttackRun) -> list[dict[str, Any]]:
    """For each attack, the success rate against the second guard minus that against the first, each of what it flags.

    Both rates use the same bootstrap samples of the texts, so that the interval is that of a paired comparison.
    """
    differences = []
    pairs = [*zip(first.results, second.results, strict=True), None]
    for pair in pairs:
        difference: dict[str, Any] = {"name": ANY if pair is None else pair[0].attack.name}
        for point in OPERATING_POINTS:
            rates = []
            for side, run in enumerate((first, second)):
                at = run.thresholds[point]
                passed = _passed_any(run, at) if pair is None else pair[side].unsafe.passed(at.unsafe)
                flagged = run.unsafe.flagged(at.unsafe)
                rates.append((_mean((flagged & passed)[flagged]), _resampled(flagged, flagged & passed)))
            (rate1, samples1), (rate2, samples2) = rates
            difference[point] = {
                "difference": None if rate1 is None or rate2 is None else round(rate2 - rate1, _DIGITS),
                "interval": _interval(samples2 - samples1),
            }
        differences.append(difference)
    return differences


def _resampled(flagged: Bools, evaded: Bools) -> Floats:
    """The success rate in each bootstrap sample of the unsafe texts, NaN in samples without a flagged text.

    Equal numbers of texts give equal samples. The thresholds are held fixed.
    """
    sampled = np.random.default_rng(0).integers(0, len(flagged), (ROUNDS, len(flagged)))
    counts = flagged[sampled].sum(axis=1)
    return np.where(counts > 0, evaded[sampled].sum(axis=1) / np.maximum(counts, 1), np.nan)


def _interval(values: Floats) -> list[float] | None:
    """The percentile interval of the values that are not NaN."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    return [round(float(end), _DIGITS) for end in np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]


def _mean(values: Bools | Floats) -> float | None:
    return round(float(values.mean()), _DIGITS) if len(values) else None


# -- for people -------------------------------------------------------------------------------------------------------


def tables(report: Mapping[str, Any]) -> list[Table]:
    """A table of the attacks on one guard; for two guards side by side, one table per operating point."""
    guards = report["guards"]
    return [_single(guards[0])] if len(guards) == 1 else [_side_by_side(report, point) for point in OPERATING_POINTS]


def _single(guard: Mapping[str, Any]) -> Table:
    table = number_table(
        "", "success", "95 %", "FPR", "p before", "p after", "changed", "undecided", "queries", "in mode", "its FPR"
    )
    for attack in guard["attacks"]:
        fixed, mode = attack["fixed"], attack["mode"]
        add(
            table,
            attack["name"],
            decimal(fixed["success"]),
            interval_text(fixed["interval"]),
            *(decimal(value) for value in (fixed["fpr"], attack["p_before"], attack["p_after"])),
            f"{attack['changed']}/{attack['attacked']}",
            str(attack["errors"] + attack["incomplete"]),
            str(attack["queries"]),
            decimal(mode["success"]),
            decimal(mode["fpr"]),
        )
    for group, means in guard["groups"].items():
        name, empty = f"mean of {means['attacks']} {group}", [""] * 5
        fixed, mode = means["fixed"], means["mode"]
        rates = (decimal(fixed["success"]), "", decimal(fixed["fpr"]), *empty, decimal(mode["success"]))
        add(table, name, *rates, decimal(mode["fpr"]))
    fixed, mode = guard["any"]["fixed"], guard["any"]["mode"]
    blank = [""] * 6
    add(table, ANY, decimal(fixed["success"]), interval_text(fixed["interval"]), *blank, decimal(mode["success"]), "")
    return table


def _side_by_side(report: Mapping[str, Any], point: str) -> Table:
    first, second = report["guards"]
    title = {"fixed": "at the fixed FPR", "mode": "in the guards' mode"}[point]
    table = number_table(title, "success 1", "95 %", "success 2", "95 %", "2 minus 1", "95 %", "FPR 1", "FPR 2")
    pairs = [*zip(first["attacks"], second["attacks"], strict=True), (first["any"], second["any"])]
    for pair, difference in zip(pairs, report["differences"], strict=True):
        rates = [(decimal(side[point]["success"]), interval_text(side[point]["interval"])) for side in pair]
        add(
            table,
            difference["name"],
            *rates[0],
            *rates[1],
            decimal(difference[point]["difference"]),
            interval_text(difference[point]["interval"]),
            *(decimal(side[point].get("fpr")) for side in pair),
        )
    return table


def interval_text(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else " … ".join(decimal(bound) for bound in interval)


def evasions(report: Mapping[str, Any]) -> Iterator[str]:
    """A line for each text that evaded a guard: guard, attack, row of the sample, and the escaped text."""
    for number, guard in enumerate(report["guards"], 1):
        for attack in guard["attacks"]:
            for entry in attack.get("texts", ()):
                yield f"guard {number}  {attack['name']}  {entry['row']}  {json.dumps(entry['text'])}"
