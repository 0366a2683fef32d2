"""A bundle of a model as it was released: a released guard, or a chat model that is asked to judge. Nothing is trained.

It is exported as a finished run is, through the same graph and the same checks, so that every command works with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard import policy as policies
from guard.conversation import Example
from guard.errors import BundleError
from guard.policy import Detail, Policy
from guard.prompts.prompted import Judging, PromptedTemplate
from guard.prompts.released import ReleasedPrompt
from guard.prompts.tokenizer import load_tokenizer
from guard.train.causal.base import tokenizer_of
from guard.train.causal.checkpoint import loadable, model_folder
from guard.train.causal.export import Head, bundle_causal
from guard.train.causal.merged import MergedWeights

OVERLAP = 256


@dataclass(frozen=True, slots=True)
class AsReleased:
    """How a model that was not trained here is used.

    policy: None for the released guard's own, or mlcommons. judging: how a chat model is asked, None for a released
    guard.
    """

    policy: str | None = None
    detail: Detail = "full"
    max_tokens: int = 4096
    judging: Judging | None = None


def policy_of(base: str, use: AsReleased) -> Policy:
    """The policy that the bundle will have."""
    return _policy(_prompt(base, tokenizer_of(loadable(base)), use), use)


def bundle_as_released(
    base: str, made: Path, use: AsReleased, form: str, head: Head, most_flips: float, rows: Sequence[Example] = ()
) -> tuple[dict[str, Any], dict[str, float]]:
    """Fills the folder `made` as `bundle_causal` does; the manifest's fields and the measured parity.

    BundleError if the model is no released guard and not to be asked, or what `bundle_causal` raises.
    """
    where = loadable(base)
    prompt = _prompt(base, tokenizer_of(where), use)
    rules = _policy(prompt, use)
    with tempfile.TemporaryDirectory(dir=made.parent, prefix=f".{made.name}-") as scratch:
        run = Path(scratch)
        prompt.save(run)
        (run / "policy.yaml").write_text(policies.dump(rules), encoding="utf-8")
        config = {
            "base": base,
            "model": {},
            "max_tokens": use.max_tokens,
            "overlap": prompt.overlap,
            "detail": use.detail,
            # A chat model that never learnt these words may give them little, which is measured and no error.
            "least_label_mass": 0.5 if use.judging is None else 0.0,
        }
        record = {"config": config, "renderer": prompt.digest, "data": None}
        weights = MergedWeights(where, model_folder(where, {}))
        return bundle_causal(run, record, made, form, head, most_flips, weights, rows)


def _policy(prompt: ReleasedPrompt, use: AsReleased) -> Policy:
    return prompt.template.policy if use.policy is None else policies.load(use.policy)


def _prompt(base: str, path: Path, use: AsReleased) -> ReleasedPrompt:
    tokenizer, folder, overlap = load_tokenizer(path), path.parent, min(OVERLAP, use.max_tokens // 8)
    if use.judging is not None:
        template = PromptedTemplate.of(tokenizer, folder, use.judging)
        return ReleasedPrompt.of(template, tokenizer, folder, use.max_tokens, overlap, use.detail)
    found = ReleasedPrompt.find(tokenizer, folder, use.max_tokens, overlap, use.detail)
    if found is None:
        raise BundleError(
            f"base {base!r}: is neither a run nor a released guard; train it (guard train --base), or export it with "
            "--prompted to ask it as it is"
        )
    return found
