"""The moderator: policy + engine → verdicts. Synchronous; the service runs the same steps around its batcher."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from guard.bundle import open_bundle
from guard.calibration import MODES, Calibration, Mode, thresholds
from guard.conversation import Conversation, Target
from guard.engines import open_engine
from guard.engines.base import Engine, Reading, Score, Window
from guard.errors import ConfigError, EngineError, GuardError, InvalidInput
from guard.policy import Policy, load
from guard.reading import read
from guard.verdict import Coverage, Timings, Verdict, decide, sigmoid


@dataclass(frozen=True, slots=True)
class GuardInfo:
    """What a guard judges by: `model` is its digest; policy and mode are those that apply where a call brings none.

    thresholds: under that policy and mode, for each target the verdict's threshold and those of the categories.
    """

    model: str
    kind: str
    policy: Policy
    mode: Mode
    thresholds: Mapping[Target, tuple[float, Mapping[str, float]]]


class Guard(Protocol):
    """A guard wherever it runs: a Moderator in this process, or the client of a service. Thread-safe.

    `guard.serve.client.open_guard` opens either. Use it as a context manager or `close` it.
    """

    @property
    def info(self) -> GuardInfo:
        """What it judges by. Raises PolicyError or ServiceError where a service must be asked and cannot answer."""

    def moderate_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        """For each conversation, in order, its verdict or the error that it met; one never fails the others.

        policy, mode: None for the guard's own. Raises PolicyError or ConfigError where the options cannot be followed.
        """

    def close(self) -> None:
        """Frees the model, or the connection."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A conversation that has been read under a policy and waits for its scores."""

    conversation: Conversation
    policy: Policy
    reading: Reading
    tokenize_ms: float


@dataclass(frozen=True)
class Moderator:
    """Judges conversations under its policy, or under one that a call brings.

    Thread-safe. Scoring happens in three steps that a service can interleave: `plan` (tokenise), the engine's
    `score` on the plan's windows, `conclude` (calibrate, aggregate, decide).
    """

    engine: Engine
    policy: Policy
    calibration: Calibration = field(default_factory=Calibration)
    mode: Mode = "balanced"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"unknown mode {self.mode!r}; allowed: {', '.join(MODES)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the engine."""

    @property
    def info(self) -> GuardInfo:
        """What it judges by."""
        return self.info_of(self.policy, self.mode)

    def info_of(self, policy: Policy, mode: Mode) -> GuardInfo:
        """What it would judge by under these options."""
        cuts = {target: thresholds(self.calibration, policy, target, mode) for target in Target}
        return GuardInfo(self.engine.digest, self.engine.kind, policy, mode, cuts)

    def moderate(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict]:
        """One verdict for each conversation, in order. A text that occurs twice is scored once."""
        plans = [self.plan(conversation, policy, exclude) for conversation in conversations]
        distinct = {key(window): window for plan in plans for window in plan.reading.windows}
        started = time.perf_counter()
        found = self.engine.score(list(distinct.values()))
        infer_ms = (time.perf_counter() - started) * 1e3
        if len(found) != len(distinct):
            raise _short(len(found), len(distinct))
        scores = dict(zip(distinct, found, strict=True))
        return [
            self.conclude(
                plan, [scores[key(w)] for w in plan.reading.windows], Timings(plan.tokenize_ms, 0.0, infer_ms), mode
            )
            for plan in plans
        ]

    def moderate_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        """As `moderate`, but a conversation that cannot be judged answers with its error and spares the others."""
        try:
            return [*self.moderate(conversations, policy, exclude, mode)]
        except (InvalidInput, EngineError) as problem:
            if len(conversations) == 1:
                return [problem]
            return [self.moderate_each([conversation], policy, exclude, mode)[0] for conversation in conversations]

    def check(self, prompt: str, response: str | None = None, **options: object) -> Verdict:
        """The verdict on a single prompt, or on the response to it."""
        return self.moderate([Conversation.of(prompt, response)], **options)[0]  # type: ignore[arg-type]

    def plan(self, conversation: Conversation, policy: Policy | None = None, exclude: Collection[str] = ()) -> Plan:
        """Token ids of the conversation and its views. Raises InvalidInput or PolicyError, before much is spent."""
        applied = (policy or self.policy).without(exclude)
        started = time.perf_counter()
        reading = read(self.engine, conversation, applied)
        return Plan(conversation, applied, reading, (time.perf_counter() - started) * 1e3)

    def conclude(
        self, plan: Plan, scores: Sequence[Score], timings: Timings | None = None, mode: Mode | None = None
    ) -> Verdict:
        """The verdict of a plan from the scores of its windows: the worst one decides, be it of the text or of a view.

        `coverage.windows` counts them all, since each was scored and any may be the worst.
        """
        windows = plan.reading.windows
        if len(scores) != len(windows) or not scores:
            raise _short(len(scores), len(windows))
        if not all(_sound(score, len(plan.policy.codes)) for score in scores):
            raise EngineError(
                "the engine gave a score without a finite number for the verdict and each category; this is a fault of "
                "the model or a bug of the engine"
            )
        target = plan.conversation.target
        scale = self.calibration.of(target)
        worst = max(range(len(scores)), key=lambda index: scores[index].unsafe)
        p_unsafe = scale.probability(scores[worst].unsafe)
        categories = {
            code: scale.probability(max(score.categories[index] for score in scores))
            for index, code in enumerate(plan.policy.codes)
        }
        overall, each = thresholds(self.calibration, plan.policy, target, mode or self.mode)
        coverage = Coverage(
            plan.reading.tokens_seen, plan.reading.tokens_total, len(windows), windows[worst].start, windows[worst].end
        )
        outcome, flagged = decide(p_unsafe, overall, categories, each, coverage.complete)
        # Of the text as it stands, where it begins; a prompt refuses nothing.
        refusal = scores[0].refusal if target is Target.RESPONSE else None
        return Verdict(
            outcome=outcome,
            target=target,
            p_unsafe=p_unsafe,
            threshold=overall,
            categories=categories,
            flagged=flagged,
            p_refusal=None if refusal is None else sigmoid(refusal),
            coverage=coverage,
            policy=plan.policy.digest,
            model=self.engine.digest,
            timings=timings or Timings(),
        )


def open_moderator(
    model: str | Path | None = None,
    policy: str | Path | None = None,
    mode: Mode = "balanced",
    threads: int | None = None,
) -> Moderator:
    """A moderator for a bundle folder (None: the guard that ships in the package; `fake`: no model at all).

    policy: a shipped name or a file; None: the bundle's own. Raises BundleError or PolicyError.
    """
    if model == "fake":
        from guard.engines.fake import FakeEngine

        return Moderator(FakeEngine(), load(policy or "mlcommons"), mode=mode)
    bundle = open_bundle(model)
    applied = bundle.policy if policy is None else load(policy)
    return Moderator(open_engine(bundle, threads), applied, bundle.calibration, mode)


def key(window: Window) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """What a window's score depends on."""
    return window.policy.digest, window.ids, window.segments


def _short(scores: int, windows: int) -> EngineError:
    return EngineError(f"the engine gave {scores} scores for {windows} windows; this is a bug of the engine")


def _sound(score: Score, categories: int) -> bool:
    return len(score.categories) == categories and all(map(math.isfinite, (score.unsafe, *score.categories)))
