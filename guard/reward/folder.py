"""The folder of a trained reward model: `scorer.json`, what it names, and the one way to open it.

scorer.json        the system, and digests of all that a score depends on
adapter/           LoRA weights, as peft keeps them (none for a prompted model)
head.safetensors   of a scalar system
tokenizer.json     policy.yaml (of a guard's verdicts)
config.json        model.safetensors (of a small encoder)
calibration.json   anchors.jsonl, by which a drift is noticed
learnt.txt         digests of the prompts that it learnt from, so that an evaluation can leave them out
checked.json       where the anchors have been found to score as they did; written when it is opened
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard import policy, schema
from guard.errors import BundleError, DocumentError
from guard.jobs.atomic import atomic
from guard.prompts.encoder import LAYOUT_DIGEST
from guard.prompts.prompt import load_prompt
from guard.reward.row import RewardRow, parse_row
from guard.reward.score import Asked, RewardCalibration
from guard.reward.systems import SYSTEMS
from guard.reward.template import template
from guard.train.common.identity import base_digest, contents
from guard.train.common.run_folder import packages

NAME = "scorer.json"
ADAPTER, TOKENIZER, POLICY = "adapter", "tokenizer.json", "policy.yaml"
CALIBRATION, ANCHORS, LEARNT, CHECKED = "calibration.json", "anchors.jsonl", "learnt.txt", "checked.json"
OVERLAP = 48  # tokens that the windows of a guard's prompt share
DRIFT = 3.0  # standard errors
_ROOM = 2048  # tokens; no digest depends on them
_ADAPTER = (f"{ADAPTER}/adapter_model.safetensors", f"{ADAPTER}/adapter_config.json")
_PARTS = (*_ADAPTER, "head.safetensors", "model.safetensors", "config.json", TOKENIZER, POLICY)


@dataclass(frozen=True, slots=True)
class Described:
    """The contents of scorer.json. base: a folder or a name on the hub, empty if none is needed. parts: digests."""

    __pydantic_config__ = schema.STRICT

    system: str
    base: str
    parts: Mapping[str, str]
    max_tokens: int
    reply_tokens: int = 0
    beta: float = 0.1
    least_label_mass: float = 0.5
    detail: policy.Detail = "full"

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of everything but where the base lies, and of how the system is read."""
        plain = {key: value for key, value in dataclasses.asdict(self).items() if key != "base"}
        system = SYSTEMS[self.system]
        plain["read"] = [system.rule, system.question, system.samples]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def parts_of(folder: Path, base: Path | None) -> dict[str, str]:
    """The digests of what lies in a reward model's folder, of its base, and of the words and the layout of its prompts;
    base: None for a model that needs none, an encoder."""
    found = {name: contents(folder / name) for name in _PARTS if (folder / name).is_file()}
    if base is None:
        return {**found, "layout": LAYOUT_DIGEST}
    if POLICY in found:
        found["renderer"] = load_prompt(folder / TOKENIZER, _ROOM, 0).digest
    return {**found, "base": base_digest(base), "template": template().digest}


def write_described(folder: Path, described: Described) -> None:
    text = json.dumps(dataclasses.asdict(described), indent=2, sort_keys=True) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8")


def read_described(folder: Path, base: Path | None = None) -> tuple[Described, Path | None]:
    """What a folder holds, and the folder of its base (or `base`, where it moved to); None if it needs none.

    BundleError unless everything is what the model was trained and calibrated with.
    """
    path = folder / NAME
    try:
        described = schema.load(path, Described)
    except DocumentError as problem:
        raise BundleError(f"{path}: not a reward model: {str(problem).splitlines()[0]}") from None
    if described.system not in SYSTEMS:
        raise BundleError(f"{path}: unknown system {described.system[:40]!r}; allowed: {', '.join(SYSTEMS)}")
    where = None if not described.base else base if base is not None else base_folder(described.base)
    now = parts_of(folder, where)
    for name in sorted({*now, *described.parts}):
        before, found = described.parts.get(name), now.get(name)
        if before != found:
            told = [f"{digest[:12]}" if digest else "absent" for digest in (before, found)]
            raise BundleError(
                f"{path}: {name} has another fingerprint (was {told[0]}, is {told[1]}): it belongs to another model or "
                "to other prompts, and scores would mean nothing; restore it, or train again"
            )
    return described, where


def base_folder(base: str) -> Path:
    """Where a causal base lies; one of the hub must have been downloaded before."""
    if Path(base).is_dir():
        return Path(base)
    from guard.train.causal.checkpoint import model_folder

    return model_folder(base, {})


def write_calibration(folder: Path, calibration: RewardCalibration, anchors: Sequence[Mapping[str, Any]]) -> None:
    """anchors: rows with `prompt` and `response`, whose scores the calibration holds."""
    plain = json.dumps(dataclasses.asdict(calibration), indent=2, sort_keys=True) + "\n"
    (folder / CALIBRATION).write_text(plain, encoding="utf-8")
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in anchors]
    (folder / ANCHORS).write_text("".join(lines), encoding="utf-8")


def read_calibration(folder: Path) -> tuple[RewardCalibration, list[Asked]]:
    """The calibration, the identity if there is none, and the anchors."""
    path = folder / CALIBRATION
    if not path.is_file():
        return RewardCalibration(), []
    try:
        calibration = schema.load(path, RewardCalibration)
    except DocumentError as problem:
        raise BundleError(f"{path}: not a calibration: {str(problem).splitlines()[0]}; calibrate again") from None
    lines = (folder / ANCHORS).read_text(encoding="utf-8").splitlines() if (folder / ANCHORS).is_file() else []
    rows = [parse_row(json.loads(line), f"{folder / ANCHORS}:{place}") for place, line in enumerate(lines, 1)]
    return calibration, [(row.prompt, row.response or "") for row in rows]


def write_learnt(folder: Path, rows: Iterable[RewardRow]) -> None:
    """Notes the prompts of rows that a model learnt from."""
    lines = [f"{key}\n" for key in sorted({row.prompt_key for row in rows})]
    (folder / LEARNT).write_text("".join(lines), encoding="utf-8")


def read_learnt(folder: Path) -> frozenset[str]:
    """The `prompt_key`s that a model learnt from; none where nobody noted them."""
    path = folder / LEARNT
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


def is_checked(folder: Path, fingerprint: str) -> bool:
    """Whether the model was found to score as it did when it was calibrated, with these packages."""
    try:
        return _check_key(folder, fingerprint) in json.loads((folder / CHECKED).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def note_check(folder: Path, fingerprint: str) -> None:
    """Notes that it does, unless the folder is read-only."""
    try:
        before = json.loads((folder / CHECKED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = []
    noted = sorted({*(before if isinstance(before, list) else ()), _check_key(folder, fingerprint)})
    with suppress(OSError), atomic(folder / CHECKED) as file:
        file.write((json.dumps(noted, indent=2) + "\n").encode())


def _check_key(folder: Path, fingerprint: str) -> str:
    files = [contents(folder / name) for name in (CALIBRATION, ANCHORS) if (folder / name).is_file()]
    return hashlib.sha256(json.dumps([fingerprint, files, packages()], sort_keys=True).encode()).hexdigest()


def load_policy(folder: Path) -> policy.Policy:
    return policy.load(folder / POLICY)
