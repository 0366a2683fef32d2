"""From a finished run to a sealed bundle: export to ONNX, check against torch, calibrate, seal."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guard import bundle, calibration
from guard import policy as policies
from guard.bundle import Bundle
from guard.calibration import Calibration
from guard.conversation import Example
from guard.errors import BundleError, DataError
from guard.policy import Policy
from guard.train.common.draft import sealed
from guard.train.common.identity import check_unchanged, contents

if TYPE_CHECKING:
    from guard.train.causal.untrained import AsReleased


def export(
    run: Path,
    out: Path,
    name: str | None = None,
    data: Path | None = None,
    form: str | None = None,
    head: Literal["full", "verdict"] = "full",
    most_flips: float | None = None,
    as_released: AsReleased | None = None,
) -> dict[str, float]:
    """Exports the run to the bundle `out` and returns the measured parity. `out` appears only when it is complete.

    as_released: how to use a model that was not trained here; `run` is its folder, .gguf file or name on the hub then.

    form: precision of the weights; None for fp32 of a causal guard, fp16 of an encoder. head: which part of a causal
    guard's output layer is kept.
    most_flips: share of the verdicts that the form may change, None for the default.
    data: the dev rows to calibrate on; None takes the run's own for an encoder, and leaves a causal guard, whose
    scoring is slow, uncalibrated. The form int4 is rounded with regard to a sample of them.
    Raises BundleError if the run is not finished, this version has another input layout, `out` exists, or torch and
    ONNX disagree.
    """
    record: dict[str, Any] = {"kind": "causal", "config": {}} if as_released is not None else run_record(run)
    if out.exists():
        raise BundleError(f"{out}: already exists; remove it or export to another folder")
    causal = record["kind"] == "causal"
    if not causal and head != "full":
        raise BundleError(f"{run}: an encoder has one output layer; leave out --head")
    if data is None and not causal:
        data = Path(record["config"]["data"])
        if data.exists():  # else reported below
            check_unchanged(record, "data", contents(data), str(data), "restore it, or name dev rows with --data")
    # Before what takes long.
    dev = None if data is None else _dev_rows(data, _policy(run, as_released), record["config"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        calibration.write(Calibration(), folder / "calibration.json")
        if causal:
            from guard.train.causal.export import MOST_FLIPS, bundle_causal

            allowed = MOST_FLIPS if most_flips is None else most_flips
            if as_released is not None:
                from guard.train.causal.untrained import bundle_as_released

                fields, parity = bundle_as_released(
                    str(run), folder, as_released, form or "fp32", head, allowed, dev or ()
                )
            else:
                fields, parity = bundle_causal(run, record, folder, form or "fp32", head, allowed, rows=dev or ())
        else:
            from guard.train.encoder.export import FORMS, MOST_FLIPS, bundle_encoder

            allowed = MOST_FLIPS if most_flips is None else most_flips
            fields, parity = bundle_encoder(run, record, folder, form or FORMS[0], allowed)
        fields["name"] = name or out.name
        draft = sealed(folder, fields)
        if dev is not None:
            fitted = _calibrated(draft, dev)
            if not causal and data is not None:
                fitted = _for_unseen(draft, fitted, data)
            calibration.write(fitted, folder / "calibration.json")
        bundle.seal(folder, **fields, parity=parity)
        folder.rename(out)
    return parity


def run_record(run: Path) -> dict[str, Any]:
    """The `run.json` of a finished run."""
    try:
        record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BundleError(f"{run}: no run.json there; give the `out` folder of a finished `guard train`") from None
    return record


def _policy(run: Path, as_released: AsReleased | None) -> Policy:
    if as_released is None:
        return policies.load(run / "policy.yaml")
    from guard.train.causal.untrained import policy_of

    return policy_of(str(run), as_released)


def _dev_rows(data: Path, rules: Policy, config: Mapping[str, Any]) -> list[Example]:
    """Those of the languages that the guard was trained for."""
    from guard.data.dataset.examples import load_examples, of_languages

    try:
        examples = load_examples(data, "dev", rules, config.get("columns"))
        return of_languages(examples, config.get("languages") or (), str(data))
    except DataError as problem:
        raise BundleError(f"no dev rows to calibrate on: {problem}; name them with --data") from None


def _for_unseen(draft: Bundle, fitted: Calibration, data: Path) -> Calibration:
    """With what makes up for timidity about rules never seen, if the data has such rows."""
    from guard.data.dataset.examples import load_rules
    from guard.engines.registry import open_engine
    from guard.train.common.calibrate import fit_unseen

    if not (rows := load_rules(data, "dev")):
        return fitted
    fitted, report = fit_unseen(open_engine(draft), rows, fitted)
    print(json.dumps(report, indent=2))  # noqa: T201
    return fitted


def _calibrated(draft: Bundle, dev: Sequence[Example]) -> Calibration:
    from guard.engines.registry import open_engine
    from guard.train.common.calibrate import calibrate

    fitted, report = calibrate(open_engine(draft), dev, draft.policy)
    print(json.dumps(report, indent=2, default=str))  # noqa: T201
    return fitted
