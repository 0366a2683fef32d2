"""The moderator of this process: policy + engine + calibration → verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from guard.bundle import open_bundle
from guard.calibration import MODES, Calibration, Mode
from guard.conversation import Conversation, Target
from guard.engines.base import Engine
from guard.engines.pool import EnginePool
from guard.engines.registry import open_engine, open_pool
from guard.errors import ConfigError, GuardError
from guard.moderator.evidence import Evidence, evidence
from guard.moderator.guard import GuardInfo
from guard.moderator.steps import Steps, run, together
from guard.policy import Policy, load
from guard.verdict import Verdict, any_of, decide_enforced, sigmoid


@dataclass(frozen=True)
class Moderator:
    """Judges conversations under its own policy or under that of a call. Thread-safe.

    monitor: by a policy's id the codes that are watched and never flagged (guard.verdict.decide_enforced); None: all.
    calibrated_for: the policy that `calibration` was fitted on, where that is known.
    It is a Guard (guard.moderator.guard). Use it in a `with` block, or close it, to release the engine.
    """

    engine: Engine
    policy: Policy
    calibration: Calibration = field(default_factory=Calibration)
    mode: Mode = "balanced"
    monitor: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    calibrated_for: Policy | None = None

    def __post_init__(self) -> None:
        _check_mode(self.mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.engine.close()

    @property
    def info(self) -> GuardInfo:
        return self.info_of(self.policy, self.mode)

    def info_of(self, policy: Policy, mode: Mode) -> GuardInfo:
        """What it judges by under these options."""
        engine = self.engine.info
        cuts = {target: thresholds(self.calibration, policy, target, mode) for target in Target}
        return GuardInfo(engine.digest, engine.kind, policy, mode, cuts)

    def uncalibrated(self, policy: Policy) -> tuple[str, ...]:
        """The codes of a policy whose words are not those of a category that the calibration was fitted on.

        Their probabilities and thresholds are guesses. Empty where the policy of the calibration is not known.
        """
        if self.calibrated_for is None:
            return ()
        fitted = {dataclasses.replace(each, threshold=None) for each in self.calibrated_for.categories}
        return tuple(each.code for each in policy.categories if dataclasses.replace(each, threshold=None) not in fitted)

    def check(
        self,
        prompt: str,
        response: str | None = None,
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> Verdict:
        """The verdict on a single prompt, or on the response to it."""
        return self.moderate([Conversation.of(prompt, response)], policy, exclude, mode)[0]

    def moderate(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict]:
        """One verdict for each conversation, in order. Equal windows are scored once.

        Raises the error of the first conversation that cannot be judged.
        """
        verdicts = []
        for answer in self.moderate_each(conversations, policy, exclude, mode):
            if isinstance(answer, GuardError):
                raise answer
            verdicts.append(answer)
        return verdicts

    def moderate_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        """As `moderate`, but a conversation that cannot be judged gets its error and the others their verdicts.

        Raises PolicyError or ConfigError for an invalid exclusion or mode.
        """
        answers: list[Verdict | GuardError] = []
        for answer in run(self.judge_each(conversations, policy, exclude, mode), self.engine):
            if isinstance(answer, Exception) and not isinstance(answer, GuardError):
                raise answer  # a bug
            answers.append(answer)
        return answers

    def judge_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> Steps[list[Verdict | Exception]]:
        """The steps of `moderate_each`, for callers that score the windows; errors of any kind are answers here."""
        applied = (policy or self.policy).without(exclude)
        if mode is not None:
            _check_mode(mode)
        return together([self.judge(conversation, applied, mode) for conversation in conversations])

    def judge(
        self, conversation: Conversation, policy: Policy | None = None, mode: Mode | None = None
    ) -> Steps[Verdict]:
        """The steps of one verdict; they raise the conversation's error."""
        scored = yield from evidence(self.engine.renderer, conversation, policy or self.policy)
        return self.conclude(scored, mode)

    def conclude(self, evidence: Evidence, mode: Mode | None = None) -> Verdict:
        """The verdict: calibrated, against the thresholds of the mode."""
        scale = self.calibration.of(evidence.target)
        p_unsafe = scale.probability(evidence.score.unsafe)
        categories = dict(zip(evidence.policy.codes, map(scale.probability, evidence.score.categories), strict=True))
        overall, each = thresholds(self.calibration, evidence.policy, evidence.target, mode or self.mode)
        watched = self._watched(evidence.policy)
        enforced = [z for code, z in zip(categories, evidence.score.categories, strict=True) if code not in watched]
        outcome, flagged, monitor = decide_enforced(
            p_unsafe,
            overall,
            categories,
            each,
            evidence.complete,
            watched,
            scale.probability(any_of(enforced)) if enforced else 0.0,
        )
        refusal = evidence.score.refusal if evidence.target is Target.RESPONSE else None  # a prompt refuses nothing
        return Verdict(
            outcome=outcome,
            target=evidence.target,
            p_unsafe=p_unsafe,
            threshold=overall,
            categories=categories,
            flagged=flagged,
            p_refusal=None if refusal is None else sigmoid(refusal),
            coverage=evidence.coverage,
            policy=evidence.policy.digest,
            model=self.engine.info.digest,
            timings=evidence.timings,
            decided_by=evidence.decided_by,
            unjudged=evidence.unjudged,
            monitor=monitor,
        )

    def _watched(self, policy: Policy) -> frozenset[str]:
        """The codes of the policy that are watched."""
        codes = frozenset(policy.codes)
        monitored = self.monitor.get(policy.id, frozenset())
        return codes if monitored is None else codes & monitored


def thresholds(calibration: Calibration, policy: Policy, target: Target, mode: Mode) -> tuple[float, dict[str, float]]:
    """The threshold of the verdict and of each category: the policy's own where set, else the mode's.

    A category without a calibration takes the verdict's threshold.
    """
    _check_mode(mode)
    calibrated = calibration.of(target)
    overall = policy.threshold if policy.threshold is not None else calibrated.thresholds.of(mode)
    each = {
        category.code: category.threshold
        if category.threshold is not None
        else (calibrated.categories[category.code].of(mode) if category.code in calibrated.categories else overall)
        for category in policy.categories
    }
    return overall, each


def _check_mode(mode: Mode) -> None:
    if mode not in MODES:
        raise ConfigError(f"unknown mode {mode!r}; allowed: {', '.join(MODES)}")


def open_moderator(
    model: str | Path | None = None,
    policy: str | Path | None = None,
    mode: Mode = "balanced",
    threads: int | None = None,
    workers: int = 0,
) -> Moderator:
    """A moderator for a bundle folder (None: the shipped guard; `fake`: no model at all).

    policy: a shipped name or a file; None: the bundle's own. workers: processes that score (guard.engines.pool), which
    `engine.warm` starts; 0: this process scores. Raises BundleError or PolicyError.
    """
    if model == "fake":
        from guard.engines.fake import FakeEngine

        fake = FakeEngine()
        chosen = EnginePool(fake, FakeEngine, workers) if workers else fake
        return Moderator(chosen, load(policy or "mlcommons"), mode=mode)
    bundle = open_bundle(model)
    applied = bundle.policy if policy is None else load(policy)
    engine = open_pool(bundle, threads, workers) if workers else open_engine(bundle, threads)
    return Moderator(engine, applied, bundle.calibration, mode, calibrated_for=bundle.policy)
