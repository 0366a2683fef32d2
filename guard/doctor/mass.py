"""The label mass: the probability that a model gives to the verdict words at the position of the verdict."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from guard.conversation import Conversation
from guard.doctor.check import Check, fail, ok, warn
from guard.doctor.installation import version
from guard.doctor.prompt import all_ids
from guard.doctor.texts import HARMLESS, forbidden, own_words
from guard.errors import install_hint
from guard.policy import Policy
from guard.prompts.prompt import Prompt
from guard.prompts.released import ReleasedPrompt

LEAST = 0.5
LEADS = ("", "\n\n", "\n", " ")  # what a model may write before its verdict
NAME = "label mass"


def check(root: Path, prompt: Prompt, rules: Policy, size: int) -> Check:
    """Loads the weights (`size` bytes) and measures the label mass: low is a failure for a released guard."""
    if version("torch") is None or version("transformers") is None:
        return warn(NAME, "not measured: torch is not installed", install_hint("train"))
    import torch

    cuda = torch.cuda.is_available()
    room = torch.cuda.mem_get_info()[0] if cuda else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size * 1.2 > room:
        detail = f"not measured: {size / 1e9:.1f} GB of weights, {room / 1e9:.1f} GB of memory are free"
        return warn(NAME, detail, "run guard doctor on a machine with more memory")
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(str(root), dtype="auto", local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as problem:
        detail = f"the weights cannot be loaded ({type(problem).__name__}: {str(problem).splitlines()[0][:200]})"
        return fail(NAME, detail, "restore the folder, or install what the message names")
    model = model.to("cuda" if cuda else "cpu").eval()
    harmful = forbidden(rules)
    texts = (*HARMLESS, *(harmful or own_words(rules)))
    inputs = [all_ids(prompt, Conversation.of(text), rules) for text in texts]
    each = [[_mass(model, prompt, token_ids) for token_ids in prompts] for prompts in inputs]
    results = [(min(mass for mass, _ in found), max(z for _, z in found)) for found in each]
    least = min(mass for mass, _ in results)
    log_odds = [z for _, z in results]
    highest, lowest = max(log_odds[: len(HARMLESS)]), min(log_odds[len(HARMLESS) :])
    other = "harmful ones" if harmful else "the policy's own words"
    detail = (
        f"p(safe) + p(unsafe) is at least {least:.3f} on {len(results)} texts; log-odds of unsafe: harmless at most "
        f"{highest:.2f}, {other} at least {lowest:.2f}"
    )
    if not least >= LEAST:
        if not isinstance(prompt, ReleasedPrompt):
            return warn(NAME, detail, "a base model that is not trained on this prompt yet: run guard train")
        return fail(NAME, detail, _better(model, prompt, inputs[0][0], prompt.guard.lead))
    if highest >= lowest:
        return warn(NAME, detail, f"the model does not separate harmless texts from {other}; check the weights")
    return ok(NAME, detail)


def _mass(model: Any, prompt: Prompt, token_ids: list[int]) -> tuple[float, float]:
    """p(safe) + p(unsafe) after the prompt, and log p(unsafe) - log p(safe)."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([token_ids], device=model.device), use_cache=False).logits[0, -1]
    log_probs = torch.log_softmax(logits.float(), -1)
    safe, unsafe = log_probs[prompt.safe[0]], log_probs[prompt.unsafe[0]]
    return float(safe.exp() + unsafe.exp()), float(unsafe - safe)


def _better(model: Any, prompt: Prompt, token_ids: list[int], own_lead: str) -> str:
    """Advice on a low mass: whether another text before the verdict (one of LEADS) gives a higher one."""
    own = prompt.chat.text(own_lead) if own_lead else ()
    split = len(token_ids) - len(own)
    bare = token_ids[:split] if tuple(token_ids[split:]) == own else token_ids
    masses = {lead: _mass(model, prompt, [*bare, *(prompt.chat.text(lead) if lead else ())])[0] for lead in LEADS}
    best = max(masses, key=lambda lead: masses[lead])
    if masses[best] >= LEAST:
        return f"after {best!r} instead of {own_lead!r} it is {masses[best]:.3f}: this model starts its verdict so"
    return "wrong template or wrong weights: use both from the same release"
