"""Opens trained reward models; several adapters share one base that is loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guard.conversation import Message
from guard.errors import BundleError
from guard.prompts.prompt import load_prompt
from guard.reward import folder as files
from guard.reward.base import Base
from guard.reward.encoder import EncoderReader, open_encoder
from guard.reward.heads import FILE, load_head
from guard.reward.prompts import RewardPrompts
from guard.reward.rules import CausalReader
from guard.reward.scorer import Scorer, ScorerInfo
from guard.reward.systems import SYSTEMS, System
from guard.reward.template import template
from guard.train.common.identity import base_digest, contents

PROBES = (
    ((Message("user", "What is the capital of France?"),), "The capital of France is Paris."),
    ((Message("user", "How do I boil an egg?"),), "Put it into boiling water for eight minutes."),
    ((Message("user", "Thank you for your help."),), "You are welcome."),
)


def open_scorer(folder: Path | str, base: Path | str | None = None, check: bool = True) -> Scorer:
    """The reward model in a folder. See `open_scorers`."""
    return open_scorers([folder], base, check)[0]


def open_scorers(folders: Sequence[Path | str], base: Path | str | None = None, check: bool = True) -> list[Scorer]:
    """The reward models in these folders; those on one base share it. base: where it lies now, if it was moved.

    BundleError where a part is not the one that a model was made with. check: also that the words that decide have
    probability, EngineError if not, and that the scores of its anchors have not moved, BundleError if they have; once
    for each folder, precision and set of packages, noted in `checked.json`.
    """
    bases: dict[str, Base] = {}
    return [_open(Path(folder), None if base is None else Path(base), bases, check) for folder in folders]


def _open(folder: Path, base: Path | None, bases: dict[str, Base], check: bool) -> Scorer:
    described, where = files.read_described(folder, base)
    reader = _reader(folder, described, where, bases)
    calibration, anchors = files.read_calibration(folder)
    scorer = Scorer(_info(described, reader), reader, calibration, files.read_learnt(folder))
    if check and not files.is_checked(folder, scorer.info.fingerprint):
        scorer.check_mass(PROBES, described.least_label_mass)
        if (moved := scorer.drift(anchors)) is not None and moved > files.DRIFT:
            raise BundleError(
                f"{folder}: the anchors' mean score moved by {moved:.1f} standard errors; calibrate again"
            )
        files.note_check(folder, scorer.info.fingerprint)
    return scorer


def _reader(
    folder: Path, described: files.Described, where: Path | None, bases: dict[str, Base]
) -> CausalReader | EncoderReader:
    if where is None:
        return open_encoder(folder, described.max_tokens)
    system = SYSTEMS[described.system]
    prompts = RewardPrompts.load(folder / files.TOKENIZER, described.max_tokens, described.reply_tokens)
    digest = described.parts["base"]
    if digest not in bases:
        bases[digest] = Base.open(where, prompts.pad)
    shared = bases[digest]
    adapter = None
    if (folder / files.ADAPTER).is_dir():
        adapter = described.fingerprint[:16]
        shared.attach(adapter, folder / files.ADAPTER)
    head = load_head(folder, shared.width) if (folder / FILE).is_file() else None
    guard = None
    if system.guard:
        most = described.max_tokens
        prompt = load_prompt(folder / files.TOKENIZER, most, min(files.OVERLAP, most // 8), described.detail)
        guard = prompt, files.load_policy(folder)
    return CausalReader(system, shared, prompts, adapter, head, guard, described.beta)


def _info(described: files.Described, reader: CausalReader | EncoderReader) -> ScorerInfo:
    """Beside what a folder holds, a score depends on the precision that its base is loaded in."""
    system = SYSTEMS[described.system]
    precision = reader.base.precision if isinstance(reader, CausalReader) else "float32"
    return ScorerInfo(system.name, system.rule, f"{described.fingerprint}/{precision}", system.writes)


def prompted(base: str, max_tokens: int = 2048, system: str = "prompted") -> Scorer:
    """A chat model that is asked for a grade, as it is."""
    from guard.train.causal.base import tokenizer_of
    from guard.train.causal.checkpoint import loadable

    row: System = SYSTEMS[system]
    tokenizer, where = tokenizer_of(loadable(base)), files.base_folder(base)
    prompts = RewardPrompts.load(tokenizer, max_tokens)
    parts = {files.TOKENIZER: contents(tokenizer), "base": base_digest(where), "template": template().digest}
    described = files.Described(row.name, base, parts, max_tokens)
    reader = CausalReader(row, Base.open(where, prompts.pad), prompts)
    return Scorer(_info(described, reader), reader)
