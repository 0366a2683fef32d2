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
from guard.reward.heads import CriticHead, LinearHead, save_head
from guard.reward.items import pairs_of
from guard.reward.open import open_scorer
from guard.reward.row import RewardRow, plain_messages
from guard.reward.run import RewardRun, begin_finish
from guard.reward.score import RewardCalibration
from guard.reward.scorer import Scorer
from guard.reward.systems import SYSTEMS
from guard.train.causal import run_folder
from guard.train.common.run_folder import write_run

ANCHORS = 64


def finish(run: RewardRun, adapter: Path | None, head: LinearHead | None = None) -> None:
    """Publishes the run's folder with the adapter of its last stage. head: of a system whose base stays as it is."""
    staged = begin_finish(run)
    if adapter is not None:
        shutil.copytree(adapter, staged / files.ADAPTER, dirs_exist_ok=True)
        head = head or _head(run, adapter)
    if head is not None:
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
    scorer = open_scorer(staged, run.base, check=False)
    rows = list(run.apart) or list(run.train)
    measured, calibration, anchors = measure(scorer, rows, run.config.attribute)
    files.write_calibration(staged, calibration, anchors)
    print(f"held out: {measured}" if run.apart else f"no rows were held out; on its own rows: {measured}")  # noqa: T201
    write_run(
        staged,
        kind="reward",
        config=run.config,
        policy=run.rules.digest if run.rules else "",
        data_digest=run.inputs.get("data"),
        seed=run.config.seed,
        metrics={"held_out": measured if run.apart else None},
        extra={"digests": dict(run.inputs), "fingerprint": described.fingerprint, "system": run.system.name},
    )
    run_folder.publish(run.out)
    print(f"{run.out}: done; next: guard reward eval {run.out} ROWS")  # noqa: T201


def measure(
    scorer: Scorer, rows: Sequence[RewardRow], attribute: str | None = None
) -> tuple[dict[str, Any], RewardCalibration, list[dict[str, Any]]]:
    """(accuracy, calibration, anchors) on rows: of their pairs, or of labelled answers where there are none."""
    pairs = pairs_of(rows, attribute)
    singles = [half for row in rows if not pairs for half in unpaired(row)]
    texts = [(row.prompt, answer) for row in rows for answer in row.answers][:ANCHORS]
    anchors = [{"prompt": plain_messages(prompt), "response": answer} for prompt, answer in texts]
    if scorer.reader.pairwise:
        orders = scorer.reader.pairs([(row.prompt, row.chosen or "", row.rejected or "") for row in pairs])
        z = [(a.z + b.z) / 2 for a, b in orders]
        gaps = [abs(torch.sigmoid(torch.tensor(a.z)) - torch.sigmoid(torch.tensor(b.z))).item() for a, b in orders]
        mass = [reading.mass for both in orders for reading in both]
        told = _accuracy([value > 0 for value in z]) | {"position_gap": round(_mean(gaps), 4)}
        return told | {"label_mass": round(_mean(mass), 4)}, calibrate.on_pairs(z, ()), []
    kept = scorer.reader.singles(texts)
    raw = [reading.z for reading in kept]
    if pairs:
        chosen = scorer.reader.singles([(row.prompt, row.chosen or "") for row in pairs])
        rejected = scorer.reader.singles([(row.prompt, row.rejected or "") for row in pairs])
        z = [a.z - b.z for a, b in zip(chosen, rejected, strict=True)]
        told = _accuracy([value > 0 for value in z]) | {"label_mass": round(_mean([r.mass for r in chosen]), 4)}
        return told, calibrate.on_pairs(z, raw), anchors
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
    last = SYSTEMS[run.system.name].stages[-1]
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
