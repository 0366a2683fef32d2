"""From a finished causal run to the parts of a bundle: fold in the adapter, write the graph, check it against torch.

Weights are read, folded, rounded and written one tensor at a time, so that the size of the model bounds the disk and
not the memory. What is checked is the file that was written, in the session that will serve it where that fits.
"""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from guard.bundle import Bundle
from guard.conversation import Example
from guard.engines.base import all_scores
from guard.engines.causal_onnx import SETTINGS, CausalOnnxEngine, CausalSettings
from guard.errors import BundleError
from guard.policy import Policy
from guard.prompts.prompt import Prompt, load_prompt
from guard.prompts.window import RESPONSE, Window
from guard.train.causal.base import check_graph
from guard.train.causal.checkpoint import model_folder
from guard.train.causal.graph import write_graph
from guard.train.causal.hollow import empty_model
from guard.train.causal.merged import ADAPTER, MergedWeights
from guard.train.causal.quantise import BLOCK, Form, Role, form_of
from guard.train.causal.reference import nudge, stored_model, torch_log_odds
from guard.train.causal.rounding import Compensated, Rounding, input_moments, moments_needed, nearest
from guard.train.common.draft import common_fields, sealed
from guard.train.common.identity import MODEL_FILES, check_unchanged, contents
from guard.train.common.parity import BAND, PARITY_TEXTS, THRESHOLD, Floats, difference

REPORT = "parity.json"
FURTHEST_MERGED = 1e-3  # largest |Δp| that folding in an adapter may cost
SHOWN = 48  # rows that say what layers are given
MOST_FLIPS = 0.1  # share of the verdicts that a rounded form may change before it is another guard

Head = Literal["full", "verdict"]


def bundle_causal(
    run: Path,
    record: dict[str, Any],
    made: Path,
    form: str = "fp32",
    head: Head = "full",
    most_flips: float = MOST_FLIPS,
    weights: MergedWeights | None = None,
    rows: Sequence[Example] = (),
) -> tuple[dict[str, Any], dict[str, float]]:
    """Fills the folder `made` from the run; the manifest's fields and the measured parity.

    form: of the weights, see quantise.py. head: the whole output layer, or only the ids of verdicts under the
    run's policy, parts of it included. most_flips: share of the verdicts that the form may change. weights: what to
    write, None for the run's own. rows: of which a sample says what the layers of int4 are given, so that they are
    rounded with regard to it; without any, to the nearest level. Raises BundleError
    if the run was rendered in another way than this version renders, if torch and ONNX disagree, if the form changes
    too many verdicts, or if the check would not fit into memory; EngineError if the model has not learnt to answer with
    a verdict.
    """
    chosen = form_of(form)
    config = record["config"]
    prompt = load_prompt(run / "tokenizer.json", config["max_tokens"], config["overlap"], config["detail"])
    if record["renderer"] != prompt.digest:
        raise BundleError(
            f"{run}: trained on prompts of layout {record['renderer']}, this version makes layout {prompt.digest}; "
            "train it again"
        )
    if (run / "adapter").is_dir() and "digests" in record:
        folder = model_folder(config["base"], config["model"])
        check_unchanged(record, "base", contents(folder, MODEL_FILES), str(folder), "restore it, or train again")
    weights = weights or MergedWeights(
        config["base"], trained_folder(run), config.get("qlora", False), config.get("model")
    )
    check_graph(weights.config, f"base {config['base']!r}", BundleError)
    _check_memory(memory_needed(weights.config, chosen), chosen, available_memory())
    prompt.save(made)
    (made / "policy.yaml").write_bytes((run / "policy.yaml").read_bytes())
    base = Path(config["base"]).name if Path(config["base"]).exists() else config["base"]
    fields = {**common_fields(record, made), "kind": "causal", "base": base, "renderer": prompt.digest}
    rules = sealed(made, fields).policy
    settings = CausalSettings(
        config["detail"],
        prompt.safe,
        prompt.unsafe,
        prompt.chat.end[0],
        config["least_label_mass"],
        form=chosen.name,
        head=verdict_tokens(prompt, rules) if head == "verdict" else None,
    )
    (made / SETTINGS).write_text(json.dumps(dataclasses.asdict(settings), indent=2) + "\n", encoding="utf-8")
    rounding = _rounding(weights, chosen, prompt, rules, rows)
    write_graph(weights.config, weights.tensor, chosen, made / "model.onnx", settings.head, rounding)
    report = checked(sealed(made, fields), weights, chosen, settings, most_flips, rounding)
    (made / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return fields, {
        "torch_vs_onnx_alone": report["alone"]["furthest"],
        "torch_vs_onnx_batch": report["batch"]["furthest"],
        "flips": float(report["batch"]["flips"]),
        "form_cost": report["cost"]["furthest"],
        "form_flips": float(report["cost"]["flips"]),
        "texts": float(report["texts"]),
    }


def _rounding(weights: MergedWeights, form: Form, prompt: Prompt, rules: Policy, rows: Sequence[Example]) -> Rounding:
    """As GPTQ rounds where the form has 4 bits and there are rows; as the nearest level is elsewhere."""
    if form.bits != 4 or not rows:
        return nearest
    model = stored_model(weights.config, weights.tensor)
    needed, available = moments_needed(model, form), available_memory()
    if available is not None and needed > available:
        raise BundleError(
            f"rounding this model with regard to rows takes {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} "
            "GB are free; export it without --data, which rounds to the nearest levels, or on a larger machine"
        )
    prefix = prompt.prefix_ids(rules)
    drawn = random.Random(0).sample(list(rows), min(SHOWN, len(rows)))
    shown = [window.ids for row in drawn for window in prompt.tokenize(row.conversation, rules).windows[:1]]
    return Compensated(input_moments(model, form, [[*prefix, *ids] for ids in shown], len(prefix)))


def trained_folder(run: Path) -> Path:
    """Where a run keeps what it learnt: an adapter, or all weights."""
    for name in ("adapter", "model"):
        if any((run / name / file).is_file() for file in (ADAPTER, "config.json")):
            return run / name
    raise BundleError(f"{run}: neither adapter/ nor model/ holds weights; finish the training, then export")


def verdict_tokens(prompt: Prompt, rules: Policy) -> tuple[int, ...]:
    """Every token that a verdict under the policy can hold, each once, in ascending order."""
    grammar = prompt.grammar(rules)
    words = {*grammar.safe, *grammar.unsafe, *grammar.start}
    return tuple(sorted(words | {*grammar.choices, *grammar.separator, *grammar.end}))


def memory_needed(config: Any, form: Form) -> int:
    """Bytes that ONNX Runtime takes on a CPU to hold a model of this form: what the check needs, and serving there.

    Halves are widened to fp32 when a session opens, but for embeddings, of which rows are looked up; layers that are
    multiplied in integers take a byte a number.
    """
    model = empty_model(config)
    output = model.get_output_embeddings().weight
    total = 0.0
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            role: Role = "table" if isinstance(module, nn.Embedding) else "head" if weight is output else "linear"
            total += weight.numel() * (1 if form.integer(role, len(weight)) else _held(form, role, weight))
    return int(total)


def _held(form: Form, role: Role, weight: nn.Parameter) -> float:
    """Bytes for each number of a tensor that is not multiplied in integers."""
    bits = form.blocks(role, *weight.shape) if weight.dim() == 2 else None
    if bits is not None:
        return bits / 8 + 3 / BLOCK
    return form.type_of(role).itemsize if role == "table" else 4


def available_memory() -> int | None:
    """Bytes that a process can still take without swapping, None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _check_memory(needed: int, form: Form, available: int | None) -> None:
    """BundleError before anything is written, rather than being killed after all of it was."""
    if available is not None and needed > available:
        raise BundleError(
            f"checking a {form.name} graph of this model takes {needed / 1e9:.1f} GB of memory, and "
            f"{available / 1e9:.1f} GB are free; export it with --form int8 or int4, or on a larger machine"
        )


def checked(
    draft: Bundle,
    weights: MergedWeights,
    form: Form,
    settings: CausalSettings,
    most_flips: float = MOST_FLIPS,
    rounding: Rounding = nearest,
) -> dict[str, Any]:
    """The parity report of a bundle that is not sealed yet. BundleError if it may not be shipped.

    alone, batch: torch on the weights as stored against ONNX on the cached policy, each window by itself and together;
    no verdict may flip. cost: the model as it was trained, called by peft and transformers, against ONNX, of whose
    verdicts `most_flips`, a share, may. In fp32 with the full output layer, which stores what was trained, that model
    is what alone and batch compare with; in other forms the merged weights are compared with it first. nudged: of a
    form that rounds between layers, torch against itself after a change of a part in a million. ONNX may be twice as
    far away, since it adds up in another order, and verdicts within that of the threshold may flip.
    """
    started = time.monotonic()
    prompt = load_prompt(
        draft.path("tokenizer.json"), draft.manifest.max_tokens, draft.manifest.overlap, settings.detail
    )
    windows = _windows(prompt, draft.policy)
    prompts = [[*prompt.prefix_ids(draft.policy), *window.ids] for window in windows]
    words = (prompt.safe[0], prompt.unsafe[0])
    trained, mass = torch_log_odds(weights.called(), prompts, words)
    if not mass.min() >= settings.least_label_mass:
        raise BundleError(
            f"the trained model gives the words of a verdict a probability of {mass.min():.3f} together, at least "
            f"{settings.least_label_mass} is due: untrained, or trained on another prompt"
        )
    stored, nudged = trained, None
    if form.name != "fp32" or settings.head is not None:
        if weights.adapted:
            _check_merge(trained, torch_log_odds(stored_model(weights.config, weights.tensor), prompts, words)[0])
        columns = words if settings.head is None else tuple(map(settings.head.index, words))
        model = stored_model(weights.config, weights.tensor, form, settings.head, rounding)
        stored, _ = torch_log_odds(model, prompts, columns)
        if form.bits is not None:
            nudge(model)
            nudged = difference(stored, torch_log_odds(model, prompts, columns)[0])
    engine = CausalOnnxEngine(draft)
    alone = np.array([all_scores(engine, [window])[0].unsafe for window in windows])
    batch = np.array([score.unsafe for score in all_scores(engine, windows)])
    allowed = max(form.furthest, 0.0 if nudged is None else 2 * nudged.furthest)
    band = BAND if allowed == form.furthest else allowed
    found = {name: difference(stored, odds, band) for name, odds in (("alone", alone), ("batch", batch))}
    cost = difference(trained, batch)
    for name, each in found.items():
        if not each.furthest <= allowed or each.flips:
            raise BundleError(
                f"torch and ONNX ({form.name}, {name}): probabilities differ by {each.furthest:.2g}, allowed is "
                f"{allowed:.2g}; {each.flips} of {each.windows} verdicts flip, allowed is none; do not ship this"
            )
    if cost.flips > most_flips * cost.windows:
        raise BundleError(
            f"{form.name} changes {cost.flips} of {cost.windows} verdicts, allowed is a share of {most_flips:g}; "
            "export it with --form int8 or fp16, or allow it with --most-flips"
        )
    return {
        "form": form.name,
        "head": "full" if settings.head is None else f"verdict, {len(settings.head)} rows",
        "texts": len(PARITY_TEXTS),
        "allowed": allowed,
        "threshold": THRESHOLD,
        "band": band,
        "rounding": "compensated" if isinstance(rounding, Compensated) else "nearest",
        **{name: dataclasses.asdict(each) for name, each in {**found, "cost": cost}.items()},
        **({} if nudged is None else {"nudged": dataclasses.asdict(nudged)}),
        "least_label_mass": float(mass.min()),
        "seconds": round(time.monotonic() - started, 1),
    }


def _check_merge(trained: Floats, merged: Floats) -> None:
    """BundleError where the weights with the adapter folded in are another model than the one that was trained."""
    found = difference(trained, merged)
    if not found.furthest <= FURTHEST_MERGED or found.flips:
        raise BundleError(
            f"the trained model and its merged weights: probabilities differ by {found.furthest:.2g}, allowed is "
            f"{FURTHEST_MERGED:g}; {found.flips} of {found.windows} verdicts flip, allowed is none; do not ship this"
        )


def _windows(prompt: Prompt, rules: Policy) -> Sequence[Window]:
    # Of a guard that writes other answers first, what is compared is the first: the position that a prompt ends at.
    windows = [window for text in PARITY_TEXTS for window in prompt.tokenize(text, rules).windows]
    return [dataclasses.replace(window, asks="") if window.asks == RESPONSE else window for window in windows]
