"""Checks of a bundle: its files are unaltered, its engine opens it, and it separates harmful from harmless texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from guard import policy as policies
from guard.bundle import Bundle, open_bundle
from guard.conversation import Conversation
from guard.doctor import prompt as prompt_checks
from guard.doctor.check import Check, fail, ok, warn
from guard.doctor.texts import HARMLESS, forbidden, own_words
from guard.errors import GuardError
from guard.policy import Policy
from guard.prompts.prompt import load_prompt
from guard.verdict import Outcome, Verdict


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

    harmful = forbidden(rules)
    texts = (*HARMLESS, *(harmful or own_words(rules)))
    try:
        with Moderator(open_engine(bundle), rules, bundle.calibration) as moderator:
            verdicts = moderator.moderate([Conversation.of(text) for text in texts])
    except GuardError as problem:
        yield fail("answers", str(problem))
        return
    yield (_harmful_answers if harmful else _own_answers)(verdicts[: len(HARMLESS)], verdicts[len(HARMLESS) :])


def _harmful_answers(harmless: Sequence[Verdict], harmful: Sequence[Verdict]) -> Check:
    highest, lowest = max(each.p_unsafe for each in harmless), min(each.p_unsafe for each in harmful)
    detail = (
        f"p(unsafe): at most {highest:.3f} on {len(harmless)} harmless texts, at least {lowest:.3f} on {len(harmful)} "
        "harmful ones"
    )
    if highest >= lowest:
        return fail(
            "answers", detail, "the guard does not separate them under this policy: wrong policy or failed training"
        )
    wrong = sum(each.outcome is Outcome.UNSAFE for each in harmless)
    wrong += sum(each.outcome is not Outcome.UNSAFE for each in harmful)
    if wrong:
        return warn("answers", f"{detail}; {wrong} on the wrong side of the threshold", "calibrate the bundle")
    return ok("answers", detail)


def _own_answers(harmless: Sequence[Verdict], own: Sequence[Verdict]) -> Check:
    """A policy of a user's own: nobody knows what it forbids, but its own words must weigh more than harmless texts."""
    highest = max(each.p_unsafe for each in harmless)
    above = sum(each.p_unsafe > highest for each in own)
    detail = (
        f"p(unsafe): at most {highest:.3f} on {len(harmless)} harmless texts; higher on the words of {above} of "
        f"{len(own)} categories"
    )
    if not above:
        return fail("answers", detail, "the guard does not know this policy: give the one it was trained for, or train")
    flagged = sum(each.outcome is Outcome.UNSAFE for each in harmless)
    if flagged:
        return warn("answers", f"{detail}; {flagged} harmless texts are flagged", "train with more safe rows")
    if above < len(own):
        return warn("answers", detail, "check that the training data have rows of every category")
    return ok("answers", detail)
