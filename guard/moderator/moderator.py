"""The moderator of this process: policy + engine + calibration → verdicts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from guard.bundle import open_bundle
from guard.calibration import MODES, Calibration, Mode
from guard.conversation import Conversation, Target
from guard.engines.base import Engine
from guard.engines.registry import open_engine
from guard.errors import ConfigError, GuardError
from guard.moderator.evidence import Evidence, evidence
from guard.moderator.guard import GuardInfo
from guard.moderator.steps import Steps, run, together
from guard.policy import Policy, load
from guard.verdict import Verdict, decide, sigmoid


@dataclass(frozen=True)
class Moderator:
    """Judges conversations under its policy, or under one that a call brings. Thread-safe.

    It is a Guard (guard.moderator.guard). Use it in a `with` block, or close it, where the engine should be let go of.
    """

    engine: Engine
    policy: Policy
    calibration: Calibration = field(default_factory=Calibration)
    mode: Mode = "balanced"

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
        """What it would judge by under these options."""
        engine = self.engine.info
        cuts = {target: thresholds(self.calibration, policy, target, mode) for target in Target}
        return GuardInfo(engine.digest, engine.kind, policy, mode, cuts)

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
        """As `moderate`, but a conversation that cannot be judged answers with its error and spares the others.

        Raises PolicyError or ConfigError for an exclusion or mode that cannot be: they concern all.
        """
        answers: list[Verdict | GuardError] = []
        for answer in run(self.judge_each(conversations, policy, exclude, mode), self.engine):
            if isinstance(answer, Exception) and not isinstance(answer, GuardError):
                raise answer  # a bug, of the engine or ours
            answers.append(answer)
        return answers

    def judge_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> Steps[list[Verdict | Exception]]:
        """The steps of `moderate_each`, for whoever gets the windows scored; errors of any kind are answers here."""
        applied = (policy or self.policy).without(exclude)
        if mode is not None:
            _check_mode(mode)
        return together([self.judge(conversation, applied, mode) for conversation in conversations])

    def judge(
        self, conversation: Conversation, policy: Policy | None = None, mode: Mode | None = None
    ) -> Steps[Verdict]:
        """The steps of one verdict; they raise the conversation's error."""
        found = yield from evidence(self.engine, conversation, policy or self.policy)
        return self.conclude(found, mode)

    def conclude(self, found: Evidence, mode: Mode | None = None) -> Verdict:
        """The verdict on what an engine said: calibrated, against the thresholds of the mode."""
        scale = self.calibration.of(found.target)
        p_unsafe = scale.probability(found.score.unsafe)
        categories = dict(zip(found.policy.codes, map(scale.probability, found.score.categories), strict=True))
        overall, each = thresholds(self.calibration, found.policy, found.target, mode or self.mode)
        outcome, flagged = decide(p_unsafe, overall, categories, each, found.coverage.complete)
        refusal = found.score.refusal if found.target is Target.RESPONSE else None  # a prompt refuses nothing
        return Verdict(
            outcome=outcome,
            target=found.target,
            p_unsafe=p_unsafe,
            threshold=overall,
            categories=categories,
            flagged=flagged,
            p_refusal=None if refusal is None else sigmoid(refusal),
            coverage=found.coverage,
            policy=found.policy.digest,
            model=self.engine.info.digest,
            timings=found.timings,
        )


def thresholds(calibration: Calibration, policy: Policy, target: Target, mode: Mode) -> tuple[float, dict[str, float]]:
    """The threshold of the verdict and of each category: the policy's own where written, else the mode's.

    A category that the bundle was not calibrated for takes the verdict's threshold.
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
