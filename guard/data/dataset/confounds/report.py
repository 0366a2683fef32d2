"""A confound report for output: warnings in words, a before/after comparison, and plain data for JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from guard.data.dataset.confounds.measure import PROVENANCE, SURFACE, Confound, Report
from guard.data.dataset.confounds.probe import Probe

_MAX_LISTED = 6  # values in a warning
_DIGITS = 6


def warnings(report: Report) -> list[str]:
    """A line for each confound that predicts the label: how well, through which values, and what to do."""
    return [_warning(confound, confound.probe, report.warn_above) for confound in report.warned if confound.probe]


def _warning(confound: Confound, probe: Probe, warn_above: float) -> str:
    scores = f"AUROC {probe.auroc:.2f} (0.50 is chance), balanced accuracy {probe.balanced_accuracy:.2f}"
    problem = "predicts the label" if probe.auroc > warn_above else "has values of one label, which can be learnt"
    line = f"{confound.name} {problem}: {scores}"
    if confound.one_sided:
        values = ", ".join(
            f"{value.value} ({value.safe_rows:,} safe, {value.unsafe_rows:,} unsafe)"
            for value in confound.one_sided[:_MAX_LISTED]
        )
        omitted = confound.one_sided_values - _MAX_LISTED
        more = f" and {omitted} more" if omitted > 0 else ""
        line += f"; of one label: {values}{more}, {confound.one_sided_share:.1%} of the weight"
    if confound.parts:
        line += "; most of it: " + ", ".join(f"{name} ({bits:.2f} bits)" for name, bits in confound.parts[:3])
    return f"{line}. {_advice(confound)}"


def _advice(confound: Confound) -> str:
    if confound.name == SURFACE:
        return (
            "Add rows of the other label in the same style (near misses); reweigh by length (`mixing.reweigh`); "
            "cap the sources of one style."
        )
    if set(confound.columns) & set(PROVENANCE):
        return (
            "Add sources that hold both labels; cap the largest of one label; `mixing.reweigh` by source balances "
            "those that hold both, and its `one_sided` below 1 lowers the weight of the others."
        )
    factor = ", or weigh kinds by `mixing.kinds`" if confound.columns == ("kind",) else ""
    one_sided = ", with `one_sided` below 1" if confound.one_sided else ""
    by = ", ".join(confound.columns)
    return f"Add rows of the missing label; reweigh by {by} (`mixing.reweigh`){one_sided}{factor}."


def compare(before: Report, after: Report) -> list[dict[str, Any]]:
    """For each confound of both reports: bits, AUROC, balanced accuracy and one-sided share, before and after."""
    later = {confound.name: confound for confound in after.confounds}
    return [
        {"name": old.name, "values": old.values, "before": _measures(old), "after": _measures(later[old.name])}
        for old in before.confounds
        if old.name in later
    ]


def _measures(confound: Confound) -> dict[str, float | None]:
    probe = confound.probe
    return {
        "bits": None if confound.bits is None else round(confound.bits, _DIGITS),
        "auroc": None if probe is None else round(probe.auroc, _DIGITS),
        "balanced_accuracy": None if probe is None else round(probe.balanced_accuracy, _DIGITS),
        "one_sided_share": round(confound.one_sided_share, _DIGITS),
    }


def to_json(before: Report, after: Report) -> dict[str, Any]:
    """Both reports with their warnings, and their comparison, as plain data."""
    reports = {"before": before, "after": after}
    plain = {
        when: {**_rounded(dataclasses.asdict(report)), "warnings": warnings(report)} for when, report in reports.items()
    }
    return {**plain, "compared": compare(before, after)}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
