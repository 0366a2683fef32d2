"""From a finished run to a sealed bundle: calibrate, export to ONNX, check against torch, seal."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guard import bundle, calibration, policy
from guard.bundle import Bundle
from guard.calibration import Calibration
from guard.conversation import Conversation
from guard.encoder_input import LAYOUT_DIGEST, category_text
from guard.errors import BundleError, DataError
from guard.policy import Policy
from guard.train.run import packages

# Both engines must agree on these; they cover lengths from one word to several windows, and both targets.
PARITY_TEXTS = (
    Conversation.of("hello"),
    Conversation.of("How do I keep tomatoes from splitting on the vine?"),
    Conversation.of("Write a short scene in which two chess players argue about a draw. " * 30),
    Conversation.of(
        "What should I pack for a week of hiking?", "Layers, a map, water, and something to treat blisters."
    ),
    Conversation.of(
        "Explain, step by step, how interest compounds. " * 40, "Start with the principal, then add a year. " * 20
    ),
    Conversation.of("\u4f60\u597d \U0001f642 caf\u00e9 \x00 [SEP] [CLS]"),
)
TOLERANCE = 1e-3  # in probability, between torch and ONNX


def export(run: Path, out: Path, name: str | None = None, data: Path | None = None) -> dict[str, float]:
    """Makes the bundle `out` of the run and returns the measured parity. Nothing appears at `out` until all is done.

    `data` holds the dev split for calibration; None takes the folder of the run's own config. Raises BundleError if the
    run is not finished, `out` exists, or torch and ONNX disagree.
    """
    record = run_record(run)
    if out.exists():
        raise BundleError(f"{out}: exists already; remove it or export to another folder")
    if record["kind"] == "causal":
        from guard.train.causal_export import export_causal

        return export_causal(run, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        made = Path(folder) / "bundle"
        made.mkdir()
        parity = _encoder(run, record, made, name or out.name, data)
        made.rename(out)
    return parity


def run_record(run: Path) -> dict[str, Any]:
    """The `run.json` of a finished run."""
    try:
        record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BundleError(f"{run}: no run.json there; give the `out` folder of a finished `guard train`") from None
    return record


def _encoder(run: Path, record: dict[str, Any], made: Path, name: str, data: Path | None) -> dict[str, float]:
    import torch

    from guard.train import encoder
    from guard.train.encoder_export import write_graph

    config = record["config"]
    model = encoder.load(run).eval()
    encoder.save(model, made, torch.float16)
    shutil.copyfile(run / "tokenizer.json", made / "tokenizer.json")
    shutil.copyfile(run / "policy.yaml", made / "policy.yaml")
    stored = encoder.load(made).eval()  # what ships: weights rounded to half precision, computed in fp32
    write_graph(stored, made / "model.safetensors", made / "model.onnx")
    rules = policy.load(made / "policy.yaml")
    fields: dict[str, Any] = {
        "name": name,
        "kind": "mini",
        "base": record["base"],
        "policy": rules.digest,
        "renderer": LAYOUT_DIGEST,
        "max_tokens": config["max_tokens"],
        "overlap": config["overlap"],
        "data": record["data"],
        "packages": packages(),
    }
    calibration.write(Calibration(), made / "calibration.json")
    draft = Bundle(made, bundle.seal(made, **fields), rules, Calibration())
    parity = _parity(draft, model, stored)
    calibration.write(_calibrate(draft, Path(config["data"]) if data is None else data), made / "calibration.json")
    bundle.seal(made, **fields, parity=parity)
    return parity


def _calibrate(draft: Bundle, data: Path) -> Calibration:
    from guard.data.examples import load_examples
    from guard.engines import open_engine
    from guard.train.calibrate import calibrate

    try:
        dev = load_examples(data, "dev")
    except DataError as problem:
        raise BundleError(f"no dev rows to calibrate on: {problem}; name their folder with --data") from None
    fitted, report = calibrate(open_engine(draft), dev, draft.policy)
    print(json.dumps(report, indent=2, default=str))  # noqa: T201
    return fitted


def _parity(draft: Bundle, model: Any, stored: Any) -> dict[str, float]:
    """Largest difference in probability: torch against ONNX on the stored weights, and full against half precision."""
    from guard.engines.mini import MiniEngine

    engine = MiniEngine(draft)
    windows = [w for text in PARITY_TEXTS for w in engine.read(text, draft.policy).windows]
    rows = [(window.ids, window.segments) for window in windows]
    onnx_alone = _probabilities(np.array([engine.score([window])[0].unsafe for window in windows]))
    onnx_batch = _probabilities(np.array([score.unsafe for score in engine.score(windows)]))
    torch_stored = _torch(stored, engine, rows, draft.policy)
    torch_full = _torch(model, engine, rows, draft.policy)
    parity = {
        "torch_vs_onnx": float(np.abs(torch_stored - onnx_batch).max()),
        "alone_vs_batch": float(np.abs(onnx_alone - onnx_batch).max()),
        "fp32_vs_stored": float(np.abs(torch_full - torch_stored).max()),
        "texts": float(len(PARITY_TEXTS)),
    }
    for key in ("torch_vs_onnx", "alone_vs_batch"):
        if not parity[key] <= TOLERANCE:
            raise BundleError(
                f"{key}: probabilities differ by {parity[key]:.2g}, allowed is {TOLERANCE}; do not ship this export"
            )
    return parity


def _torch(model: Any, engine: Any, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], rules: Policy) -> Any:
    import torch

    from guard.train.encoder import padded

    reader = engine.input
    words = [reader.category_ids(category_text(category)) for category in rules.categories]
    with torch.no_grad():
        vectors = model.embed(**padded([(ids, (0,) * len(ids)) for ids in words], reader.pad))
        logits = model(**padded(rows, reader.pad), categories=vectors)[1]
    return _probabilities(torch.logsumexp(logits, 1).double().numpy())


def _probabilities(log_odds: Any) -> Any:
    return 1 / (1 + np.exp(-log_odds))
