"""Fits a cascade of two bundles on dev rows: how wide the band of doubt is, and the calibration of the joint score."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guard import bundle, calibration, policy
from guard.assets import default_bundle
from guard.bundle import Bundle, open_bundle
from guard.conversation import Example, Target
from guard.engines.base import Engine
from guard.engines.cascade import SETTINGS, SHIPPED, Band, CascadeEngine, CascadeSettings, Stage, StageSettings
from guard.engines.registry import open_engine
from guard.errors import BundleError, DataError, InvalidInput
from guard.metrics.classification import Bools, Floats, auprc, tpr_at_fpr
from guard.train.common.calibrate import KINDS, STRICT_FPR, calibrate, scores
from guard.train.common.run_folder import packages
from guard.verdict import log_odds

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # of the rows that the second stage judges, on the curve


@dataclass(frozen=True, slots=True)
class StageScores:
    """Calibrated log-odds of dev rows of one target from each stage, and their labels."""

    first: Floats
    second: Floats
    labels: Bools
    threshold: float  # of the first stage's balanced mode, in log-odds

    def band(self, share: float) -> Band:
        """The band around the first stage's threshold that holds this share of the rows: as many of those that it finds
        safe as of those that it flags, as far as there are so many."""
        if share >= 1:
            return Band()
        if share <= 0:
            return Band(self.threshold, self.threshold)
        below, above = (
            np.sort(self.first[self.first < self.threshold])[::-1],
            np.sort(self.first[self.first >= self.threshold]),
        )
        count = round(share * len(self.first))
        lower = min(len(below), max(count // 2, count - len(above)))
        upper = min(len(above), count - lower)
        low = below[lower - 1] if lower else self.threshold
        high = np.nextafter(above[upper - 1], np.inf) if upper else self.threshold
        return Band(float(low), float(high))

    def joint(self, band: Band) -> tuple[Floats, float]:
        """The cascade's log-odds with this band, and the share of the rows that the second stage judges."""
        asked = np.array([band.holds(z) for z in self.first])
        return np.where(asked, (self.first + self.second) / 2, self.first), float(asked.mean())


def fit(
    first: Path | None, second: Path, out: Path, data: Path, shares: Mapping[Target, float], name: str | None = None
) -> dict[str, Any]:
    """Makes the bundle `out` of kind `cascade` from two bundles (first None: the guard that ships); the curve of
    quality against cost on dev is returned and lies in `curve.json`.

    shares: of dev's rows, for each target, about which the second stage is asked. The policy is the first bundle's.
    Raises BundleError if `out` exists or a bundle cannot be opened, DataError if dev has too few rows of a label.
    """
    if out.exists():
        raise BundleError(f"{out}: already exists; remove it or choose another folder")
    for target, share in shares.items():
        if not 0 <= share <= 1:
            raise InvalidInput(f"the share of {target.value}s must be >= 0 and <= 1 (got {share:g})")
    bundles = open_bundle(first), open_bundle(second)
    for one in bundles:
        if one.manifest.kind == "cascade":
            raise BundleError(f"{one.root}: is a cascade; a stage must be a guard of one model")
    rules = bundles[0].policy
    stages = [Stage(open_engine(one), one.calibration, one.manifest.name) for one in bundles]
    examples = _dev(data, rules)
    measured = _measure(stages, examples, rules)
    bands = {target: measured.scores[target].band(shares[target]) for target in Target}
    curve = measured.curve(bands)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        places = [_place(one, out) for one in bundles]
        settings = CascadeSettings(
            StageSettings(bundles[0].manifest.model, places[0]),
            StageSettings(bundles[1].manifest.model, places[1]),
            {"prompt": bands[Target.PROMPT], "response": bands[Target.RESPONSE]},
        )
        _write(folder / SETTINGS, dataclasses.asdict(settings))
        _write(folder / "curve.json", curve)
        (folder / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
        engine = CascadeEngine(stages[0], stages[1], bands, "unsealed")
        fitted, report = calibrate(engine, examples, rules)
        engine.close()
        calibration.write(fitted, folder / "calibration.json")
        manifest = bundles[0].manifest
        bundle.seal(
            folder,
            name=name or out.name,
            kind="cascade",
            base=f"{bundles[0].manifest.name}, {bundles[1].manifest.name}",
            policy=rules.digest,
            renderer=manifest.renderer,
            max_tokens=manifest.max_tokens,
            overlap=manifest.overlap,
            data=None,
            packages=packages(),
        )
        folder.rename(out)
    return {"curve": curve, "calibration": report}


@dataclass(frozen=True, slots=True)
class _Measured:
    scores: Mapping[Target, StageScores]
    seconds: tuple[float, float]  # CPU seconds a row, of each stage

    def curve(self, chosen: Mapping[Target, Band]) -> dict[str, Any]:
        """For each target the quality and the CPU time of a text at each share, and at the chosen band."""
        result: dict[str, Any] = {"cpu_ms": [round(1e3 * each, 3) for each in self.seconds]}
        for target, each in self.scores.items():
            points = [self._point(each, each.band(share)) for share in SHARES]
            result[target.value] = {"points": points, "chosen": self._point(each, chosen[target])}
        return result

    def _point(self, scores: StageScores, band: Band) -> dict[str, float | None]:
        odds, share = scores.joint(band)
        recall = tpr_at_fpr(scores.labels, odds, STRICT_FPR)
        return {
            "share": share,
            "auprc": auprc(scores.labels, odds),
            "recall_at_5_fpr": recall.value if recall else None,
            "cpu_ms": 1e3 * (self.seconds[0] + share * self.seconds[1]),
        }


def _dev(data: Path, rules: policy.Policy) -> list[Example]:
    from guard.data.dataset.examples import load_examples

    return [example for example in load_examples(data, "dev", rules) if example.kind in KINDS]


def _measure(stages: Sequence[Stage[Engine]], examples: Sequence[Example], rules: policy.Policy) -> _Measured:
    columns: list[Floats] = []
    seconds: list[float] = []
    targets = [example.conversation.target for example in examples]
    for stage in stages:
        begun = time.process_time()
        odds = scores(stage.engine, examples, rules)[0]
        seconds.append((time.process_time() - begun) / max(1, len(examples)))
        scales = [stage.calibration.of(target) for target in targets]
        columns.append(np.array([scale.slope * z + scale.bias for scale, z in zip(scales, odds, strict=True)]))
    labels = np.array([example.label == "unsafe" for example in examples], dtype=bool)
    by_target: dict[Target, StageScores] = {}
    for target in Target:
        mine = np.array([each is target for each in targets], dtype=bool)
        if not labels[mine].any() or labels[mine].all():
            raise DataError(
                f"dev needs safe and unsafe {target.value}s to fit a cascade on (of {int(mine.sum())} rows)"
            )
        balanced = stages[0].calibration.of(target).thresholds.balanced
        by_target[target] = StageScores(columns[0][mine], columns[1][mine], labels[mine], log_odds(balanced))
    return _Measured(by_target, (seconds[0], seconds[1]))


def _place(one: Bundle, out: Path) -> str:
    """Where a stage's bundle lies, seen from the cascade's folder, so that both can be moved together."""
    if one.root.resolve() == default_bundle().resolve():
        return SHIPPED
    return os.path.relpath(one.root.resolve(), out.resolve())


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
