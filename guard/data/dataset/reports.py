"""The reports that lie beside a built data set: confounds.json and the data card."""

from __future__ import annotations

import json
from pathlib import Path

from guard.data.dataset.card import card
from guard.data.dataset.confounds import measure, outline
from guard.data.dataset.confounds import report as confound_report
from guard.data.dataset.open import CONFOUNDS


def write_reports(folder: Path) -> None:
    """Write the confound report and the data card into the folder of a build; `finalize` of `guard.data.build`."""
    path = folder / "train.parquet"
    stored = outline.read_outline(path)
    if stored.columns.counted.any():
        sample = outline.read_sample(path, measure.draw_sample(stored.columns.counted, 0))
        before, after = (
            measure.measure(stored.columns, weights, sample) for weights in (stored.columns.base, stored.weights)
        )
        report = json.dumps(confound_report.to_json(before, after), indent=1, ensure_ascii=False)
        (folder / CONFOUNDS).write_text(report + "\n", encoding="utf-8")
    card.write_card(folder)
