"""A bundle: unaltered, opened by its engine, and with an answer to texts whose answer is known."""

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
    yield ok("bundle", f"{manifest.name} ({manifest.kind}), model {manifest.model[:12]}, every file as it was sealed")
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
        made = load_prompt(bundle.path("tokenizer.json"), manifest.max_tokens, manifest.overlap, detail)
    except GuardError as problem:
        yield fail("template", str(problem))
        return
    if made.digest != manifest.renderer:
        yield fail(
            "layout",
            f"trained on prompts of layout {manifest.renderer[:12]}, this version makes {made.digest[:12]}",
            "export the run again with this version; if that refuses, train it again",
        )
    yield from prompt_checks.checks(made, rules, None)


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
    told = (
        f"p(unsafe) of {len(low)} harmless texts at most {max(low):.3f}, of {len(high)} harmful ones at least "
        f"{min(high):.3f}"
    )
    wrong = [
        verdict
        for index, verdict in enumerate(verdicts)
        if (verdict.outcome is Outcome.UNSAFE) != (index >= len(HARMLESS))
    ]
    if max(low) >= min(high):
        yield fail(
            "answers", told, "the guard does not tell them apart under this policy: wrong policy or bad training"
        )
    elif wrong:
        yield warn("answers", f"{told}; {len(wrong)} on the wrong side of the threshold", "calibrate the bundle")
    else:
        yield ok("answers", told)
