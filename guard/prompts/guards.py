"""The known released guards, a row each: what their chat template does not say.

The text of a template is never here: it comes with the weights. Facts marked "assumed" have no primary source; `guard
doctor` measures them where the weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Arguments = Mapping[str, object]  # of a chat template


@dataclass(frozen=True, slots=True)
class OneCategory:
    """How a guard that judges one category a call is asked about it.

    own: the template's arguments for a category that it describes itself, by code; None if it describes none. asks:
    those for a text that describes the category, in the forms of several releases; the first form counts whose text
    the template writes. line: that text.
    """

    asks: tuple[Callable[[str, str], Arguments], ...]
    own: Callable[[str], Arguments] | None = None
    line: str = "{text}"


@dataclass(frozen=True, slots=True)
class Guard:
    """A released guard: how to know it, and what its template does not say."""

    name: str
    marks: tuple[str, ...]  # what its rendering holds and that of no earlier row
    policy: str  # the shipped policy that describes its own categories
    lead: str  # what the model writes before the word that decides
    end: str  # the token that ends a verdict, unless the folder names another eos_token
    turns: tuple[str, ...] = ("User", "Agent")  # how it names whose turn it is, and what else starts a line
    delimiters: tuple[str, ...] = ()  # those of its own in plain text, which start with < or [
    safe: str = "safe"  # the verdict on what is safe
    unsafe: str = "unsafe"
    codes: str = "\n"  # what stands between `unsafe` and the first category
    before: str = ""  # what stands before each category's name
    numbered: bool = True  # categories are lines like "S1: Name." and verdicts name the codes; else they name the names
    source: str = "UNSAFE CONTENT CATEGORIES"  # what the source of its template holds
    most_turns: int | None = None  # of a conversation; a template that silently drops the others takes no more
    one: OneCategory | None = None  # it judges one category a call; None: all of a policy
    fields: tuple[str, ...] = ()  # of a response, what it writes between the answers that come before the last
    arguments: Arguments = field(default_factory=dict)  # further ones of its template

    @property
    def names_categories(self) -> bool:
        """Whether a verdict names the violated categories."""
        return self.one is None and not self.fields


_GRANITE_TURNS = ("User Message", "Assistant Message")
_GRANITE_DELIMITERS = tuple(
    f"<{side}{name}>"
    for name in ("turn", "risk_definition", "conversation", "guardian", "score", "think")
    for side in (("", "/") if name in ("guardian", "score", "think") else ("start_of_", "end_of_"))
)
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
    # Card of google/shieldgemma-2b: one guideline a call, given as an argument, and the probability of Yes against No.
    # The guideline's own wording is the caller's. The template takes one question, and one answer to it.
    Guard(
        "shieldgemma",
        ("Human Question: ", "'Yes' or"),
        "shieldgemma",
        "",
        "<eos>",
        turns=("Human Question", "Chatbot Response"),
        safe="No",
        unsafe="Yes",
        source="guideline",
        most_turns=2,
        one=OneCategory((lambda _, text: {"guideline": text},), line='"No {name}": {text}'),
    ),
    # ibm-granite/granite-guardian, evaluation/models/granite_guardian_3.py: 3.0 to 3.2 answer Yes or No first, and the
    # score is theirs. The template reads the last two messages.
    Guard(
        "granite-guardian-3",
        ("User Message: ", "'Yes' or 'No'"),
        "granite-guardian",
        "",
        "<|end_of_text|>",
        turns=_GRANITE_TURNS,
        delimiters=_GRANITE_DELIMITERS,
        safe="No",
        unsafe="Yes",
        source="guardian_config",
        most_turns=2,
        one=OneCategory(
            (
                lambda name, text: {"guardian_config": {"risk_name": name, "risk_definition": text}},
                lambda _, text: {"guardian_config": {"risk_definition": text}},
            ),
            own=lambda name: {"guardian_config": {"risk_name": name}},
        ),
    ),
    # …/granite_guardian_3_3.py and the notebook of 3.3 without thinking, whose outputs have an empty thought before the
    # score. Assumed: the line breaks between the two.
    Guard(
        "granite-guardian-3.3",
        ("<score>",),
        "granite-guardian",
        "<think>\n</think>\n<score>",
        "<|end_of_text|>",
        turns=_GRANITE_TURNS,
        delimiters=_GRANITE_DELIMITERS,
        safe=" no",
        unsafe=" yes",
        source="guardian_config",
        most_turns=2,
        one=OneCategory(
            (lambda _, text: {"guardian_config": {"custom_criteria": text}},),
            own=lambda name: {"guardian_config": {"criteria_id": name}},
        ),
        arguments={"think": False},
    ),
    # allenai/wildguard, wildguard/utils.py and wildguard.py: three lines of yes or no, of the request, of a refusal and
    # of the response. Its prompt comes with the model card (see guard.prompts.card) and has no place for a policy.
    Guard(
        "wildguard",
        ("Human user:", "AI assistant:"),
        "wildguard",
        "Harmful request:",
        "</s>",
        turns=("Human user", "AI assistant", "Answers"),
        delimiters=("<|user|>", "<|assistant|>"),
        safe=" no",
        unsafe=" yes",
        source="Answers: [/INST]",
        most_turns=2,
        fields=("\nResponse refusal:", "\nHarmful response:"),
    ),
)
