"""The known released guards, a row each: what their chat template does not say.

Facts marked "assumed" have no primary source; `guard doctor` measures them where the weights are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """A released guard: how to know it, and what its template does not say."""

    name: str
    marks: tuple[str, ...]  # what its rendering holds and that of no earlier row
    policy: str  # the shipped policy that describes its own categories
    lead: str  # what the model writes before the word that decides
    end: str  # the token that ends a verdict, unless the folder names another eos_token
    turns: tuple[str, str] = ("User", "Agent")  # how it names whose turn it is
    safe: str = "safe"  # the verdict on what is safe
    unsafe: str = "unsafe"
    codes: str = "\n"  # what stands between `unsafe` and the first category
    before: str = ""  # what stands before each category's name
    numbered: bool = True  # categories are lines like "S1: Name." and verdicts name the codes; else they name the names


GUARDS = (
    # Assumed: Llama Guard 1 and 2 write nothing before the verdict.
    Guard("llama-guard-1", ("O1: Violence and Hate",), "llama-guard-1", "", "</s>"),
    Guard("llama-guard-2", ("S5: Specialized Advice",), "llama-guard-2", "", "<|eot_id|>"),
    # Assumed: Llama Guard 4 is like 3 except for its control tokens.
    Guard("llama-guard-4", ("S5: Defamation", "<|header_start|>"), "mlcommons", "\n\n", "<|eot|>"),
    Guard("llama-guard-3", ("S5: Defamation",), "mlcommons", "\n\n", "<|eot_id|>"),
    # Assumed: how its prompt delimits the categories.
    Guard(
        "qwen3guard",
        ("Safety: ", "Categories:"),
        "qwen3guard",
        "Safety:",
        "<|im_end|>",
        turns=("USER", "ASSISTANT"),
        safe=" Safe\nCategories: None",
        unsafe=" Unsafe",
        codes="\nCategories:",
        before=" ",
        numbered=False,
    ),
)
