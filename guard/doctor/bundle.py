"""Checks of a bundle: its files are unaltered, its engine opens it, and it separates harmful from harmless texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guard import policy as policies
from guard.bundle import Bundle, open_bundle
from guard.conversation import Conversation
from guard.doctor import prompt as prompt_checks
from guard.doctor.check import Check, fail, ok, warn
from guard.doctor.texts import HARMFUL, HARMLESS
from guard.errors import GuardError
from guard.policy import Policy
from guard.prompts.prompt import load_prompt
from guard.verdict import Outcome


def checks(root: Path | None, policy: str | None, weights: bool) -> Iterator[Check]:
    rules = None if policy is None else policies.load(policy)
    try:
        bundle = open_bundle(root)
    except GuardError as problem:
        yield fail("bundle", str(problem))
        return
    manifest = bundle.manifest
    yield ok("bundle", f"{manifest.name} ({manifest.kind}), model {manifest.model[:12]}, every file as sealed")
    rules = rules or bundle.policy
    if manifest.kind == "causal":
        yield from _prompt(bundle, rules)
    if weights:
        yield from _answers(bundle, rules)


def _prompt(bundle: Bundle, rules: Policy) -> Iterator[Check]:
    from guard.engines.causal_onnx import settings_of

    manifest = bundle.manifest
    try:
        detail = settings_of(bundle).detail
        prompt = load_prompt(bundle.path("tokenizer.json"), manifest.max_tokens, manifest.overlap, detail)
    except GuardError as problem:
        yield fail("template", str(problem))
        return
    if prompt.digest != manifest.renderer:
        yield fail(
            "layout",
            f"trained on prompt layout {manifest.renderer[:12]}, this version renders {prompt.digest[:12]}",
            "export the run again with this version; if the export fails, train it again",
        )
    yield from prompt_checks.checks(prompt, rules, None)


def _answers(bundle: Bundle, rules: Policy) -> Iterator[Check]:
    from guard.engines.registry import open_engine
    from guard.moderator import Moderator

    try:
        moderator = Moderator(open_engine(bundle), rules, bundle.calibration)
        verdicts = moderator.moderate([Conversation.of(text) for text in (*HARMLESS, *HARMFUL)])
    except GuardError as problem:
        yield fail("answers", str(problem))
        return
    low, high = (
        [verdict.p_unsafe for verdict in part] for part in (verdicts[: len(HARMLESS)], verdicts[len(HARMLESS) :])
    )
    detail = (
        f"p(unsafe): at most {max(low):.3f} on {len(low)} harmless texts, at least {min(high):.3f} on {len(high)} "
        "harmful ones"
    )
    wrong = [
        verdict
        for index, verdict in enumerate(verdicts)
        if (verdict.outcome is Outcome.UNSAFE) != (index >= len(HARMLESS))
    ]
    if max(low) >= min(high):
        yield fail(
            "answers", detail, "the guard does not separate them under this policy: wrong policy or failed training"
        )
    elif wrong:
        yield warn("answers", f"{detail}; {len(wrong)} on the wrong side of the threshold", "calibrate the bundle")
    else:
        yield ok("answers", detail)
