"""A confound report told: warnings in words, before beside after, and plain data for JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from guard.data.dataset.confounds.measure import PROVENANCE, SURFACE, Confound, Report
from guard.data.dataset.confounds.probe import Probe

_NAMED, _DIGITS = 6, 6


def warnings(report: Report) -> list[str]:
    """One line for each confound that tells the label: how strongly, through which values, and what to do."""
    return [_warning(one, one.probe, report.warn_above) for one in report.warned if one.probe]


def _warning(one: Confound, found: Probe, warn_above: float) -> str:
    measured = f"AUROC {found.auroc:.2f} (0.50 tells nothing), balanced accuracy {found.balanced_accuracy:.2f}"
    beyond = found.auroc > warn_above
    line = (
        f"{one.name} {'predicts the label' if beyond else 'has values of one label, which can be learnt'}: {measured}"
    )
    if one.one_sided:
        named = ", ".join(
            f"{value.value} ({value.safe_rows:,} safe, {value.unsafe_rows:,} unsafe)"
            for value in one.one_sided[:_NAMED]
        )
        more = f" and {one.one_sided_values - _NAMED} more" if one.one_sided_values > _NAMED else ""
        line += f"; of one label: {named}{more}, {one.one_sided_share:.1%} of the weight"
    if one.parts:
        line += "; most of it: " + ", ".join(f"{name} ({bits:.2f} bits)" for name, bits in one.parts[:3])
    return f"{line}. {_advice(one)}"


def _advice(one: Confound) -> str:
    if one.name == SURFACE:
        return (
            "Add rows of the other label in the same style (near misses); reweigh by length (`mixing.reweigh`); "
            "cap the sources of one style."
        )
    if set(one.columns) & set(PROVENANCE):
        return (
            "Add sources that hold both labels; cap the largest of one label; `mixing.reweigh` by source evens those "
            "that hold both, and its `one_sided` below 1 lightens the others."
        )
    factor = ", or weigh kinds by `mixing.kinds`" if one.columns == ("kind",) else ""
    lighten = ", with `one_sided` below 1" if one.one_sided else ""
    return f"Add rows of the missing label; reweigh by {', '.join(one.columns)} (`mixing.reweigh`){lighten}{factor}."


def compare(before: Report, after: Report) -> list[dict[str, Any]]:
    """For each confound of both reports: bits, AUROC, balanced accuracy and one-sided share, before and after."""
    later = {one.name: one for one in after.confounds}
    return [
        {"name": one.name, "values": one.values, "before": _measures(one), "after": _measures(later[one.name])}
        for one in before.confounds
        if one.name in later
    ]


def _measures(one: Confound) -> dict[str, float | None]:
    found = one.probe
    return {
        "bits": None if one.bits is None else round(one.bits, _DIGITS),
        "auroc": None if found is None else round(found.auroc, _DIGITS),
        "balanced_accuracy": None if found is None else round(found.balanced_accuracy, _DIGITS),
        "one_sided_share": round(one.one_sided_share, _DIGITS),
    }


def to_json(before: Report, after: Report) -> dict[str, Any]:
    """Both reports with their warnings, and their comparison, as plain data."""
    reports = {"before": before, "after": after}
    told = {when: {**_rounded(dataclasses.asdict(one)), "warnings": warnings(one)} for when, one in reports.items()}
    return {**told, "compared": compare(before, after)}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
