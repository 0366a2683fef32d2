"""Two engines as one: a cheap one that scores every conversation, and a dear one for those about which it is unsure.

Which conversations those are is decided in `guard.moderator.evidence`, which asks this engine for windows of either
stage. A window of the second stage says so (`Window.stage`), so that batchers can mix both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from guard import assets, schema
from guard.bundle import Bundle, open_bundle
from guard.calibration import Calibration
from guard.conversation import Conversation, Target
from guard.engines.base import Engine, EngineInfo, Renderer
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


Part = TypeVar("Part", bound=Renderer)


@dataclass(frozen=True)
class Stage(Generic[Part]):
    """A stage's engine, or its renderer alone, with the calibration that puts both on one scale, and the name of its
    bundle."""

    engine: Part
    calibration: Calibration
    name: str


class CascadeRenderer(Generic[Part]):
    """Thread-safe where those of its stages are."""

    def __init__(self, first: Stage[Part], second: Stage[Part], bands: Mapping[Target, Band], digest: str) -> None:
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

    def cost(self, window: Window) -> int:
        return self.stages[window.stage].engine.cost(window)


class CascadeEngine(CascadeRenderer[Engine]):
    """Thread-safe and batch-invariant where both of its engines are."""

    ready = True

    @property
    def renderer(self) -> Renderer:
        return self

    def prepare(self, policy: Policy) -> None:
        for stage in self.stages:
            stage.engine.prepare(policy)

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

    engine: Renderer

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        tokenized = self.engine.tokenize(conversation, policy)
        windows = tuple(dataclasses.replace(window, stage=1) for window in tokenized.windows)
        return dataclasses.replace(tokenized, windows=windows)


def open_cascade(bundle: Bundle, threads: int | None = None) -> CascadeEngine:
    """The engine of a cascade's bundle.

    Raises BundleError if a stage's bundle is missing, damaged, another model than the cascade was fitted with, or
    itself a cascade.
    """
    from guard.engines.registry import open_engine

    inner, bands = _parts(bundle)
    opened: list[Stage[Engine]] = []
    try:
        for one in inner:
            opened.append(Stage(open_engine(one, threads), one.calibration, one.manifest.name))
    except BaseException:
        for stage in opened:
            stage.engine.close()
        raise
    return CascadeEngine(opened[0], opened[1], bands, bundle.manifest.model)


def open_cascade_renderer(bundle: Bundle, threads: int | None = None) -> CascadeRenderer[Renderer]:
    """The renderer of a cascade's bundle. Raises as `open_cascade` does."""
    from guard.engines.registry import open_renderer

    inner, bands = _parts(bundle)
    first, second = (Stage(open_renderer(one, threads), one.calibration, one.manifest.name) for one in inner)
    return CascadeRenderer(first, second, bands, bundle.manifest.model)


def _parts(bundle: Bundle) -> tuple[tuple[Bundle, Bundle], Mapping[Target, Band]]:
    """The verified bundles of its stages, and its bands."""
    try:
        settings = schema.load(bundle.path(SETTINGS), CascadeSettings)
    except DocumentError as problem:
        raise BundleError(f"{'; '.join(str(problem).splitlines())}; fit the cascade again") from None
    inner = _stage_bundle(bundle, settings.first), _stage_bundle(bundle, settings.second)
    return inner, {target: settings.band(target) for target in Target}


def _stage_bundle(bundle: Bundle, stage: StageSettings) -> Bundle:
    root = assets.default_bundle() if stage.at == SHIPPED else bundle.root / stage.at
    inner = open_bundle(root)
    if inner.manifest.kind == "cascade":
        raise BundleError(f"{bundle.root}: its stage {stage.at} is a cascade; a stage must be a guard of one model")
    if inner.manifest.model != stage.model:
        raise BundleError(
            f"{bundle.root}: fitted with model {stage.model[:12]}, but {stage.at} is {inner.manifest.model[:12]}; "
            "restore that bundle, or fit the cascade again with `guard cascade`"
        )
    return inner
