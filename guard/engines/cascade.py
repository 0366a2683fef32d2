"""Two engines as one: a cheap one that scores every conversation, and a dear one for those about which it is unsure.

Which conversations those are is decided in `guard.moderator.evidence`, which asks this engine for windows of either
stage. A window of the second stage says so (`Window.stage`), so that batchers can mix both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from guard import assets, schema
from guard.bundle import Bundle, open_bundle
from guard.calibration import Calibration
from guard.conversation import Conversation, Target
from guard.engines.base import Engine, EngineInfo
from guard.errors import BundleError, DocumentError, EngineError
from guard.policy import Policy
from guard.prompts.window import Score, TokenizedConversation, Window

SETTINGS = "cascade.json"
SHIPPED = "default"  # the place of the guard that ships in the package


@dataclass(frozen=True, slots=True)
class Band:
    """The first stage's calibrated log-odds from `low` on and below `high` leave a conversation undecided.

    None stands for minus and plus infinity: a band of two of them asks the second stage about everything.
    """

    __pydantic_config__ = schema.STRICT

    low: float | None = None
    high: float | None = None

    def holds(self, log_odds: float) -> bool:
        return (self.low is None or self.low <= log_odds) and (self.high is None or log_odds < self.high)


@dataclass(frozen=True, slots=True)
class StageSettings:
    """A stage: its bundle's model digest, and where the bundle lies, seen from the cascade's folder."""

    __pydantic_config__ = schema.STRICT

    model: str
    at: str


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """`cascade.json` of a bundle of kind `cascade`."""

    __pydantic_config__ = schema.STRICT

    first: StageSettings
    second: StageSettings
    bands: Mapping[Literal["prompt", "response"], Band]

    def band(self, target: Target) -> Band:
        return self.bands["prompt" if target is Target.PROMPT else "response"]


@dataclass(frozen=True)
class Stage:
    """A stage's engine, with the calibration that puts both on one scale, and the name of its bundle."""

    engine: Engine
    calibration: Calibration
    name: str


class CascadeEngine:
    """Thread-safe and batch-invariant where both of its engines are."""

    def __init__(self, first: Stage, second: Stage, bands: Mapping[Target, Band], digest: str) -> None:
        self.stages, self.bands = (first, second), dict(bands)
        infos = [stage.engine.info for stage in self.stages]
        known = [set(info.languages) for info in infos]
        self.info = EngineInfo(
            kind="cascade",
            digest=digest,
            languages=tuple(sorted(known[0] & known[1])) if all(known) else (),
            parallel_calls=1,
            device=infos[1].device,
            batch_tokens=min(info.batch_tokens for info in infos),
        )

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        return self.stages[0].engine.tokenize(conversation, policy)

    def prepare(self, policy: Policy) -> None:
        for stage in self.stages:
            stage.engine.prepare(policy)

    def cost(self, window: Window) -> int:
        return self.stages[window.stage].engine.cost(window)

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        """Each stage scores its own windows; where all of one stage fail, those of the other have their scores."""
        scores: dict[int, Score | EngineError] = {}
        for number, stage in enumerate(self.stages):
            places = [place for place, window in enumerate(windows) if window.stage == number]
            if not places:
                continue
            answers: Sequence[Score | EngineError]
            try:
                answers = stage.engine.score([windows[place] for place in places])
            except EngineError as problem:
                if len(places) == len(windows):
                    raise
                answers = [problem] * len(places)
            scores.update(zip(places, answers, strict=True))
        return [scores[place] for place in range(len(windows))]

    def warm(self) -> None:
        for stage in self.stages:
            stage.engine.warm()

    def close(self) -> None:
        for stage in self.stages:
            stage.engine.close()


@dataclass(frozen=True, slots=True)
class SecondStage:
    """The renderer of the second stage: its windows say that they are of it."""

    engine: Engine

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        tokenized = self.engine.tokenize(conversation, policy)
        windows = tuple(dataclasses.replace(window, stage=1) for window in tokenized.windows)
        return dataclasses.replace(tokenized, windows=windows)


def open_cascade(bundle: Bundle, threads: int | None = None) -> CascadeEngine:
    """The engine of a cascade's bundle.

    Raises BundleError if a stage's bundle is missing, damaged, another model than the cascade was fitted with, or
    itself a cascade.
    """
    try:
        settings = schema.load(bundle.path(SETTINGS), CascadeSettings)
    except DocumentError as problem:
        raise BundleError(f"{'; '.join(str(problem).splitlines())}; fit the cascade again") from None
    bands = {target: settings.band(target) for target in Target}
    opened: list[Stage] = []
    try:
        for stage in (settings.first, settings.second):
            opened.append(_open_stage(bundle, stage, threads))
    except BaseException:
        for one in opened:
            one.engine.close()
        raise
    return CascadeEngine(opened[0], opened[1], bands, bundle.manifest.model)


def _open_stage(bundle: Bundle, stage: StageSettings, threads: int | None) -> Stage:
    from guard.engines.registry import open_engine

    root = assets.default_bundle() if stage.at == SHIPPED else bundle.root / stage.at
    inner = open_bundle(root)
    if inner.manifest.kind == "cascade":
        raise BundleError(f"{bundle.root}: its stage {stage.at} is a cascade; a stage must be a guard of one model")
    if inner.manifest.model != stage.model:
        raise BundleError(
            f"{bundle.root}: fitted with model {stage.model[:12]}, but {stage.at} is {inner.manifest.model[:12]}; "
            "restore that bundle, or fit the cascade again with `guard cascade`"
        )
    return Stage(open_engine(inner, threads), inner.calibration, inner.manifest.name)
