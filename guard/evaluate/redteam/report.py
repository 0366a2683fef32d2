"""The report of a robustness run: rates as plain data, one guard or two side by side, and as tables for people.

No text of any row is in it, unless it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from guard.evaluate.redteam.robustness import POINTS, Cuts, Setting, Siege, Trial
from guard.evaluate.redteam.sample import Sample
from guard.evaluate.report import figure
from guard.metrics.classification import Bools, Floats

if TYPE_CHECKING:
    from rich.table import Table

ROUNDS, LEVEL = 1000, 0.95  # of the bootstrap
ANY = "any of these"
_DIGITS = 6


def report(
    sieges: Sequence[Siege], drawn: Sample, setting: Setting, command: str, show_text: bool = False
) -> dict[str, Any]:
    """What `guard redteam` writes. With two guards, `differences` tells the second one's success less the first's."""
    told: dict[str, Any] = {
        "command": command,
        "set": {
            "name": drawn.suite.name,
            "digest": drawn.suite.digest,
            "unsafe": len(drawn.unsafe),
            "safe": len(drawn.safe),
            "left_out": drawn.left_out,
        },
        "fpr": setting.fpr,
        "budget": setting.budget,
        "seed": setting.seed,
        "guards": [_guard(siege, show_text) for siege in sieges],
    }
    if len(sieges) == 2:
        told["differences"] = _differences(*sieges)
    return told


def _guard(siege: Siege, show_text: bool) -> dict[str, Any]:
    info, policy = siege.info, siege.info.policy
    return {
        "model": info.model,
        "kind": info.kind,
        "policy": {"id": policy.id, "version": policy.version, "digest": policy.digest},
        "mode": info.mode,
        "errors": int(np.isnan(siege.unsafe.p).sum() + np.isnan(siege.safe.p).sum()),
        "before": {point: _before(siege, siege.cuts[point]) for point in POINTS},
        "attacks": [_attack(siege, trial, show_text) for trial in siege.trials],
        "any": {
            point: _success(siege.unsafe.flagged(cut.unsafe), _passed_any(siege, cut))
            for point, cut in siege.cuts.items()
        },
    }


def _before(siege: Siege, cut: Cuts) -> dict[str, Any]:
    """Recall and false-positive rate of the guard on the texts as they are."""
    return {
        "thresholds": {target.value: value for target, value in cut.of.items()},
        "recall": _mean(siege.unsafe.flagged(cut.unsafe)),
        "fpr": _mean(siege.safe.flagged(cut.safe)),
    }


def _attack(siege: Siege, trial: Trial, show_text: bool) -> dict[str, Any]:
    """The numbers of an attack; attacked are the unsafe texts that are flagged at either point.

    errors, incomplete: texts that the guard could not judge then, or not read whole. p_before, p_after: means over
    those that the fixed threshold flags before the attack.
    """
    cuts = siege.cuts
    flagged = siege.unsafe.flagged(cuts["fixed"].unsafe) & ~np.isnan(trial.unsafe.p)
    tried = [index for index, text in enumerate(trial.texts) if text]
    told: dict[str, Any] = {
        "name": trial.attack.name,
        "kind": trial.attack.kind,
        "attacked": len(tried),
        "changed": trial.changed,
        "queries": trial.queries,
        "errors": int(np.isnan(trial.unsafe.p[tried]).sum()),
        "incomplete": int((~trial.unsafe.complete[tried] & ~np.isnan(trial.unsafe.p[tried])).sum()),
        "p_before": _mean(siege.unsafe.p[flagged]),
        "p_after": _mean(trial.unsafe.p[flagged]),
    }
    for point, cut in cuts.items():
        told[point] = {
            **_success(siege.unsafe.flagged(cut.unsafe), trial.unsafe.passed(cut.unsafe)),
            "fpr": _mean(trial.safe.flagged(cut.safe)),
        }
    if show_text:
        passed = siege.unsafe.flagged(cuts["fixed"].unsafe) & trial.unsafe.passed(cuts["fixed"].unsafe)
        told["texts"] = [{"row": int(index), "text": trial.texts[index]} for index in np.flatnonzero(passed)]
    return told


def _success(flagged: Bools, passed: Bools) -> dict[str, Any]:
    """Of the texts flagged before: how many there are, how many got past, their share and its interval."""
    evaded = flagged & passed
    return {
        "flagged": int(flagged.sum()),
        "evaded": int(evaded.sum()),
        "success": _mean(evaded[flagged]),
        "interval": _interval(_resampled(flagged, evaded)),
    }


def _passed_any(siege: Siege, cut: Cuts) -> Bools:
    passed = np.zeros(len(siege.unsafe.p), dtype=bool)
    for trial in siege.trials:
        passed |= trial.unsafe.passed(cut.unsafe)
    return passed


def _differences(first: Siege, second: Siege) -> list[dict[str, Any]]:
    """Success against the second guard less that against the first, each of what that guard flags, for each attack.

    Both guards' rates are taken on the same samples of the texts, so that the interval is that of a paired comparison.
    """
    found = []
    pairs = [*zip(first.trials, second.trials, strict=True), None]
    for pair in pairs:
        told: dict[str, Any] = {"name": ANY if pair is None else pair[0].attack.name}
        for point in POINTS:
            rates = []
            for side, siege in enumerate((first, second)):
                cut = siege.cuts[point]
                passed = _passed_any(siege, cut) if pair is None else pair[side].unsafe.passed(cut.unsafe)
                flagged = siege.unsafe.flagged(cut.unsafe)
                rates.append((_mean((flagged & passed)[flagged]), _resampled(flagged, flagged & passed)))
            (one, ones), (other, others) = rates
            told[point] = {
                "difference": None if one is None or other is None else round(other - one, _DIGITS),
                "interval": _interval(others - ones),
            }
        found.append(told)
    return found


def _resampled(flagged: Bools, evaded: Bools) -> Floats:
    """The rate in each bootstrap sample of the unsafe texts, NaN in one without a flagged text.

    Equal numbers of texts give equal samples. The thresholds are taken as they are.
    """
    chosen = np.random.default_rng(0).integers(0, len(flagged), (ROUNDS, len(flagged)))
    counts = flagged[chosen].sum(axis=1)
    return np.where(counts > 0, evaded[chosen].sum(axis=1) / np.maximum(counts, 1), np.nan)


def _interval(values: Floats) -> list[float] | None:
    """The percentile interval of those values that are numbers."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    return [round(float(end), _DIGITS) for end in np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]


def _mean(values: Bools | Floats) -> float | None:
    return round(float(values.mean()), _DIGITS) if len(values) else None


# -- for people -------------------------------------------------------------------------------------------------------


def tables(told: Mapping[str, Any]) -> list[Table]:
    """A table of the attacks on one guard; of two guards side by side, one table for each point."""
    guards = told["guards"]
    return [_alone(guards[0])] if len(guards) == 1 else [_beside(told, point) for point in POINTS]


def _alone(guard: Mapping[str, Any]) -> Table:
    table = _table(
        "", "success", "95 %", "FPR", "p before", "p after", "changed", "undecided", "queries", "in mode", "its FPR"
    )
    for attack in guard["attacks"]:
        fixed, mode = attack["fixed"], attack["mode"]
        table.add_row(
            attack["name"],
            figure(fixed["success"]),
            between(fixed["interval"]),
            *(figure(value) for value in (fixed["fpr"], attack["p_before"], attack["p_after"])),
            f"{attack['changed']}/{attack['attacked']}",
            str(attack["errors"] + attack["incomplete"]),
            str(attack["queries"]),
            figure(mode["success"]),
            figure(mode["fpr"]),
        )
    fixed, mode = guard["any"]["fixed"], guard["any"]["mode"]
    blank = [""] * 6
    table.add_row(ANY, figure(fixed["success"]), between(fixed["interval"]), *blank, figure(mode["success"]), "")
    return table


def _beside(told: Mapping[str, Any], point: str) -> Table:
    first, second = told["guards"]
    title = {"fixed": "at the fixed FPR", "mode": "in the guards' mode"}[point]
    table = _table(title, "success 1", "95 %", "success 2", "95 %", "2 less 1", "95 %", "FPR 1", "FPR 2")
    rows = [*zip(first["attacks"], second["attacks"], strict=True), (first["any"], second["any"])]
    for (one, other), difference in zip(rows, told["differences"], strict=True):
        rates = [(figure(side[point]["success"]), between(side[point]["interval"])) for side in (one, other)]
        table.add_row(
            difference["name"],
            *rates[0],
            *rates[1],
            figure(difference[point]["difference"]),
            between(difference[point]["interval"]),
            *(figure(side[point].get("fpr")) for side in (one, other)),
        )
    return table


def between(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else " … ".join(figure(end) for end in interval)


def shown(told: Mapping[str, Any]) -> Iterator[str]:
    """A line for each text that got past a guard: guard, attack, row of the sample, and the text escaped."""
    for number, guard in enumerate(told["guards"], 1):
        for attack in guard["attacks"]:
            for entry in attack.get("texts", ()):
                yield f"guard {number}  {attack['name']}  {entry['row']}  {json.dumps(entry['text'])}"


def _table(first: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
