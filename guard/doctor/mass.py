"""The label mass: how much probability a model gives to the words of a verdict where one is due."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from guard.conversation import Conversation
from guard.doctor.check import Check, fail, ok, warn
from guard.doctor.installation import version
from guard.doctor.prompt import ids
from guard.doctor.texts import HARMFUL, HARMLESS
from guard.errors import install_hint
from guard.policy import Policy
from guard.prompts.prompt import Prompt
from guard.prompts.released import ReleasedPrompt

LEAST = 0.5
LEADS = ("", "\n\n", "\n", " ")  # what a model may write before its verdict
NAME = "label mass"


def check(root: Path, made: Prompt, rules: Policy, size: int) -> Check:
    """Loads the weights (`size` bytes) and measures; a released guard must know its own prompt."""
    if version("torch") is None or version("transformers") is None:
        return warn(NAME, "not measured: torch is not installed", install_hint("train"))
    import torch

    cuda = torch.cuda.is_available()
    room = torch.cuda.mem_get_info()[0] if cuda else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size * 1.2 > room:
        told = f"not measured: {size / 1e9:.1f} GB of weights, {room / 1e9:.1f} GB of memory are free"
        return warn(NAME, told, "run it on a larger machine")
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(str(root), dtype="auto", local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as problem:
        told = f"the weights cannot be loaded ({type(problem).__name__}: {str(problem).splitlines()[0][:200]})"
        return fail(NAME, told, "restore the folder, or install what the message names")
    model = model.to("cuda" if cuda else "cpu").eval()
    prompts = [ids(made, Conversation.of(text), rules) for text in (*HARMLESS, *HARMFUL)]
    found = [_mass(model, made, prompt) for prompt in prompts]
    least = min(mass for mass, _ in found)
    odds = [z for _, z in found]
    told = (
        f"p(safe) + p(unsafe) is at least {least:.3f} on {len(found)} texts; log-odds of unsafe: harmless at most "
        f"{max(odds[: len(HARMLESS)]):.2f}, harmful at least {min(odds[len(HARMLESS) :]):.2f}"
    )
    if not least >= LEAST:
        if not isinstance(made, ReleasedPrompt):
            return warn(NAME, told, "a base model that has not learnt this prompt yet: run guard train")
        return fail(NAME, told, _better(model, made, prompts[0], made.guard.lead))
    if max(odds[: len(HARMLESS)]) >= min(odds[len(HARMLESS) :]):
        return warn(NAME, told, "the model does not tell harmless from harmful texts: are these the right weights?")
    return ok(NAME, told)


def _mass(model: Any, made: Prompt, prompt: list[int]) -> tuple[float, float]:
    """p(safe) + p(unsafe) after the prompt, and log p(unsafe) - log p(safe)."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt], device=model.device), use_cache=False).logits[0, -1]
    log_probs = torch.log_softmax(logits.float(), -1)
    safe, unsafe = log_probs[made.safe[0]], log_probs[made.unsafe[0]]
    return float(safe.exp() + unsafe.exp()), float(unsafe - safe)


def _better(model: Any, made: Prompt, prompt: list[int], lead: str) -> str:
    """What to do about a low mass: another text before the verdict may give a higher one."""
    written = made.chat.text(lead) if lead else ()
    bare = prompt[: len(prompt) - len(written)] if tuple(prompt[len(prompt) - len(written) :]) == written else prompt
    tried = {other: _mass(model, made, [*bare, *(made.chat.text(other) if other else ())])[0] for other in LEADS}
    best = max(tried, key=lambda other: tried[other])
    if tried[best] >= LEAST:
        return f"after {best!r} in place of {lead!r} it is {tried[best]:.3f}: this copy writes that before a verdict"
    return "wrong template or wrong weights: take both from the same release"
