"""The end of a reward model's run: its parts put together, measured and calibrated on held-out prompts, published."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from guard.metrics.intervals import wilson
from guard.reward import calibrate
from guard.reward import folder as files
from guard.reward.base import HEAD, WEIGHTS
from guard.reward.convert import unpaired
from guard.reward.heads import FILE, CriticHead, LinearHead, save_head
from guard.reward.items import pairs_of
from guard.reward.open import open_scorer
from guard.reward.row import RewardRow, plain_messages
from guard.reward.run import RewardRun, begin_finish
from guard.reward.score import RewardCalibration
from guard.reward.scorer import Scorer
from guard.train.causal import run_folder
from guard.train.common.run_folder import write_run
from guard.verdict import sigmoid

ANCHORS = 64
UNMEASURED = "nothing; no prompt was held out that has what an accuracy needs"


def finish(run: RewardRun, learnt: Path | None) -> None:
    """Publishes the run's folder with what its last stage learnt, an adapter or a head."""
    assert learnt is not None
    staged = begin_finish(run)
    if (learnt / FILE).is_file():
        shutil.copyfile(learnt / FILE, staged / FILE)
    else:
        shutil.copytree(learnt, staged / files.ADAPTER, dirs_exist_ok=True)
        if (head := _head(run, learnt)) is not None:
            save_head(head, staged)
    beta = next((float(s.settings["beta"]) for s in run.system.stages if "beta" in s.settings), 0.1)
    for options in (run.config.trainer, *run.config.stages.values()):
        beta = float(options.get("beta", beta))
    described = files.Described(
        run.system.name,
        run.config.base,
        files.parts_of(staged, run.base),
        run.config.max_tokens,
        run.config.reply_tokens,
        beta,
        run.config.least_label_mass,
        run.config.detail,
    )
    files.write_described(staged, described)
    files.write_learnt(staged, run.train)
    scorer = open_scorer(staged, run.base, check=False)
    measured, calibration, anchors = measure(scorer, run.apart, run.train, run.attribute)
    files.write_calibration(staged, calibration, anchors)
    print(f"held out: {measured or UNMEASURED}")  # noqa: T201
    write_run(
        staged,
        kind="reward",
        config=run.config,
        policy=run.rules.digest if run.rules else "",
        data_digest=run.inputs.get("data"),
        seed=run.config.seed,
        metrics={"held_out": measured, "stages": run.costs()},
        extra={"digests": dict(run.inputs), "fingerprint": described.fingerprint, "system": run.system.name},
    )
    run_folder.publish(run.out)
    print(f"{run.out}: done; next: guard reward eval {run.out} ROWS")  # noqa: T201


def measure(
    scorer: Scorer, apart: Sequence[RewardRow], train: Sequence[RewardRow], attribute: str | None = None
) -> tuple[dict[str, Any] | None, RewardCalibration, list[dict[str, Any]]]:
    """(accuracy, calibration, anchors) on held-out rows: of their pairs, or of labelled answers where there are none.

    Nothing is measured on rows that the model learnt from: where none were held out there is no accuracy, and the
    calibration centres the scores of the training rows and no more.
    """
    texts = [(row.prompt, answer) for row in (apart or train) for answer in row.answers][:ANCHORS]
    anchors = [{"prompt": plain_messages(prompt), "response": answer} for prompt, answer in texts]
    pairs = pairs_of(apart, attribute)
    if scorer.reader.pairwise:
        if not pairs:
            return None, RewardCalibration(), []
        orders = scorer.reader.pairs([(row.prompt, row.chosen or "", row.rejected or "") for row in pairs])
        z = [(a.z + b.z) / 2 for a, b in orders]
        gaps = [abs(sigmoid(a.z) - sigmoid(b.z)) for a, b in orders]
        mass = [reading.mass for both in orders for reading in both]
        told = _accuracy([value > 0 for value in z]) | {"position_gap": round(_mean(gaps), 4)}
        return told | {"label_mass": round(_mean(mass), 4)}, calibrate.on_pairs(z, ()), []
    raw = [reading.z for reading in scorer.reader.singles(texts)]
    if pairs:
        chosen = scorer.reader.singles([(row.prompt, row.chosen or "") for row in pairs])
        rejected = scorer.reader.singles([(row.prompt, row.rejected or "") for row in pairs])
        z = [a.z - b.z for a, b in zip(chosen, rejected, strict=True)]
        told = _accuracy([value > 0 for value in z]) | {"label_mass": round(_mean([r.mass for r in chosen]), 4)}
        return told, calibrate.on_pairs(z, raw), anchors
    singles = [half for row in apart for half in unpaired(row)]
    if not singles:
        return None, calibrate.centred(RewardCalibration(), raw), anchors
    readings = scorer.reader.singles([(row.prompt, row.response or "") for row in singles])
    labels = [bool(row.label) for row in singles]
    z = [reading.z for reading in readings]
    fitted = calibrate.on_labels(z, labels, raw)
    right = [(fitted.log_odds(value) > 0) is label for value, label in zip(z, labels, strict=True)]
    return _accuracy(right) | {"label_mass": round(_mean([r.mass for r in readings]), 4)}, fitted, anchors


def _accuracy(right: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson(sum(right), len(right))
    return {"rows": len(right), "accuracy": round(_mean(right), 4), "interval": [round(low, 4), round(high, 4)]}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _head(run: RewardRun, adapter: Path) -> LinearHead | None:
    """The scalar head that was trained beside an adapter."""
    weights = {
        name.partition(f".{HEAD}.")[2]: tensor
        for name, tensor in load_file(adapter / WEIGHTS).items()
        if f".{HEAD}." in name
    }
    if not weights:
        return None
    last = run.system.stages[-1]
    if last.trainer == "critic":
        head: LinearHead = CriticHead(weights["linear.weight"].shape[1], ("reward",))
        head.load_state_dict(weights, strict=False)
        return head
    names: tuple[str, ...] = run.attributes if last.trainer == "attributes" else ("reward",)
    shares: Mapping[str, float] = dict(zip(run.config.attributes, run.config.attribute_weights, strict=False))
    head = LinearHead(weights["weight"].shape[1], names, [shares.get(n, 1 / len(names)) for n in names])
    with torch.no_grad():
        head.linear.weight.copy_(weights["weight"])
    return head
