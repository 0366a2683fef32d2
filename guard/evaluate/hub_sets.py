"""Benchmarks that are data sets of the Hugging Face Hub, each scored by its published convention.

They are loaded from a copy in `hub/NAME` under the root, or else by `datasets`. The columns were taken from the cards
and from public code that uses them, not from the live data.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

from guard import policy as policies
from guard.conversation import Conversation, Label
from guard.data.sources.description import Hub
from guard.errors import InvalidInput
from guard.evaluate.suite import Benchmark, Case, Fields, one_of, text
from guard.policy import crosswalk as crosswalks
from guard.policy.crosswalk import Crosswalk

CODES_OF = "mlcommons"  # the policy whose codes the benchmarks' categories are mapped to
_HARM: dict[str, Label] = {"harmful": "unsafe", "unharmful": "safe"}
_SAFETY: dict[str, Label] = {"unsafe": "unsafe", "safe": "safe"}
_ANNOTATORS = 5


@functools.cache
def _crosswalk(name: str) -> Crosswalk:
    return crosswalks.closed(crosswalks.load(name), policies.load(CODES_OF))


def _truth(name: str, label: Label, native: Iterable[str], doubtful: bool = False) -> Mapping[str, bool]:
    """Which codes a row violates by its native categories; unlisted categories leave all codes unknown.

    doubtful: the categories may belong to another message of the row, so that no violation is certain.
    """
    table = _crosswalk(name)
    codes = policies.load(CODES_OF).codes
    if label == "safe":
        return dict.fromkeys(codes, False)
    matches = [table.entry(word) for word in native]
    entries = [entry for entry in matches if entry is not None]
    meaning = crosswalks.meaning(table, entries)
    if not entries or len(entries) < len(matches) or not meaning.codes:
        return {}
    known = {code: code in meaning.codes for code in codes if code not in meaning.undecided}
    return {code: true for code, true in known.items() if not (doubtful and true)}


def _blank(record: Fields, name: str) -> bool:
    """Whether a column has no value, or no visible character."""
    value = record.get(name)
    return value is None or (isinstance(value, str) and not value.strip())


def _flag(record: Fields, name: str) -> bool:
    """A boolean column in any of its spellings."""
    value = str(record.get(name)).strip().lower()
    if value not in ("true", "false", "1", "0"):
        raise InvalidInput(f"`{name}` is neither true nor false")
    return value in ("true", "1")


def _toxicchat(record: Fields) -> Sequence[Case]:
    label: Label = "unsafe" if _flag(record, "toxicity") else "safe"
    subset = "read by people" if _flag(record, "human_annotation") else "passed by a filter"
    return [Case(Conversation.of(text(record, "user_input")), label, {}, subset)]


def _aegis1(record: Fields) -> Sequence[Case]:
    """User messages only; unsafe unless most annotators say Safe. Needs Caution is not safe."""
    if text(record, "text_type") != "user_message" or _blank(record, "text"):
        return []
    votes = [str(record.get(f"labels_{n}") or "").strip() for n in range(_ANNOTATORS)]
    votes = [vote for vote in votes if vote]
    if not votes:
        raise InvalidInput("has no annotator's label in `labels_0` to `labels_4`")
    safe = sum(vote.lower() == "safe" for vote in votes)
    return [Case(Conversation.of(text(record, "text")), "safe" if 2 * safe > len(votes) else "unsafe", {})]


def _aegis2(part: str, other: str) -> Callable[[Fields], Sequence[Case]]:
    """The reader of the prompts or of the responses. Redacted prompts and unlabelled rows are left out."""

    def read(record: Fields) -> Sequence[Case]:
        label_column = f"{part}_label"
        if text(record, "prompt").strip() == "REDACTED" or _blank(record, label_column) or _blank(record, part):
            return []
        label = one_of(record, label_column, _SAFETY)
        native = [word.strip() for word in str(record.get("violated_categories") or "").split(",")]
        both = str(record.get(f"{other}_label")).strip().lower() == "unsafe"
        truth = _truth("aegis2", label, filter(None, native), doubtful=both)
        response = None if part == "prompt" else text(record, "response")
        return [Case(Conversation.of(text(record, "prompt"), response), label, truth)]

    return read


def _beavertails(record: Fields) -> Sequence[Case]:
    if _blank(record, "response"):
        return []
    label: Label = "safe" if _flag(record, "is_safe") else "unsafe"
    flags = record.get("category")
    native = [str(name) for name, on in flags.items() if on] if isinstance(flags, dict) else []
    truth = _truth("beavertails", label, native)
    return [Case(Conversation.of(text(record, "prompt"), text(record, "response")), label, truth)]


def _saferlhf(record: Fields) -> Sequence[Case]:
    """One case for each of the two answers."""
    cases = []
    for side in ("0", "1"):
        if not _blank(record, f"response_{side}"):
            label: Label = "safe" if _flag(record, f"is_response_{side}_safe") else "unsafe"
            conversation = Conversation.of(text(record, "prompt"), text(record, f"response_{side}"))
            cases.append(Case(conversation, label, {}))
    return cases


def _wildguardtest_prompt(record: Fields) -> Sequence[Case]:
    if _blank(record, "prompt_harm_label"):
        return []
    label = one_of(record, "prompt_harm_label", _HARM)
    truth = _truth("wildguardmix", label, [str(record.get("subcategory"))])
    return [Case(Conversation.of(text(record, "prompt")), label, truth, _style(record))]


_REFUSAL = {"refusal": True, "compliance": False}


def _wildguardtest_response(record: Fields) -> Sequence[Case]:
    if _blank(record, "response_harm_label") or _blank(record, "response"):
        return []
    label = one_of(record, "response_harm_label", _HARM)
    refusal = _REFUSAL.get(str(record.get("response_refusal_label")).strip().lower())
    conversation = Conversation.of(text(record, "prompt"), text(record, "response"))
    return [Case(conversation, label, {}, _style(record), refusal=refusal)]


def _style(record: Fields) -> str:
    return "adversarial" if _flag(record, "adversarial") else "vanilla"


def _xstest_response(record: Fields) -> Sequence[Case]:
    label = one_of(record, "label", _HARM)
    return [Case(Conversation.of(text(record, "prompt"), text(record, "response")), label, {})]


def _or_bench_hard(record: Fields) -> Sequence[Case]:
    return [Case(Conversation.of(text(record, "prompt")), "safe", {}, text(record, "category"))]


def _or_bench_toxic(record: Fields) -> Sequence[Case]:
    category = text(record, "category")
    truth = _truth("or_bench", "unsafe", [category])
    return [Case(Conversation.of(text(record, "prompt")), "unsafe", truth, category)]


_HUB = "https://huggingface.co/datasets/"
_AEGIS2 = Hub("nvidia/Aegis-AI-Content-Safety-Dataset-2.0", "test", revision="d86bb8bedff51d25ac834ab7838f1cc61acb7a2c")
_WILDGUARD = Hub("allenai/wildguardmix", "test", "wildguardtest", "d29c47f41c8b51348b5c8e8c81c039b3132b66d1")
_OR_BENCH_REVISION = "e36d8b80e81837c8a8f264bbb2a49f1b32c7e272"


def _of(hub: Hub, title: str, licence: str, read: Callable[[Fields], Sequence[Case]], **more: object) -> Benchmark:
    return Benchmark(title, _HUB + hub.dataset, licence, read, hub=hub, **more)  # type: ignore[arg-type]


HUB_SETS: dict[str, Benchmark] = {
    "toxicchat": _of(
        Hub("lmsys/toxic-chat", "test", "toxicchat0124", "29df8e4dba60e1f4af4b4075c0705c5b313548a8"),
        "ToxicChat prompts (0124, test)",
        "CC-BY-NC-4.0",
        _toxicchat,
        cautions="Published tables with 2853 rows, 362 of them unsafe, score the subset that was read by people; "
        "others score all rows. Compare with the subset of the same size.",
    ),
    "aegis1": _of(
        Hub("nvidia/Aegis-AI-Content-Safety-Dataset-1.0", "test"),
        "Aegis 1.0 user messages (test)",
        "CC-BY-4.0",
        _aegis1,
        published=(359, 232),
        cautions="How published tables made one label of five was not confirmed: here a row is safe if most of its "
        "labels are Safe.",
    ),
    "aegis2_prompt": _of(
        _AEGIS2,
        "Aegis 2.0 prompts (test)",
        "CC-BY-4.0",
        _aegis2("prompt", "response"),
        cautions="Prompts that the publisher redacted are left out, which published tables may have filled in.",
    ),
    "aegis2_response": _of(
        _AEGIS2,
        "Aegis 2.0 responses (test)",
        "CC-BY-4.0",
        _aegis2("response", "prompt"),
        cautions="Rows whose prompt the publisher redacted are left out, which published tables may have filled in.",
    ),
    "beavertails": _of(
        Hub("PKU-Alignment/BeaverTails", "30k_test", revision="8401fe609d288129cc684a9b3be6a93e41cfe678"),
        "BeaverTails answers (30k, test)",
        "CC-BY-NC-4.0",
        _beavertails,
        published=(3021, 1733),
    ),
    "saferlhf": _of(
        Hub("PKU-Alignment/PKU-SafeRLHF", "test", "default", "9421ffafec3fa40a1f1a7d567b4d525079477ecb"),
        "PKU-SafeRLHF answers (test)",
        "CC-BY-NC-4.0",
        _saferlhf,
        published=(2000, 1000),
        cautions="Most published tables score a sample of 1000 safe and 1000 unsafe answers that is not part of the "
        "data set; here both answers of every test row count. An F1 depends on the share of unsafe rows.",
    ),
    "wildguardtest_prompt": _of(
        _WILDGUARD, "WildGuardTest prompts", "ODC-By-1.0", _wildguardtest_prompt, cautions="Rows without a label out."
    ),
    "wildguardtest_response": _of(
        _WILDGUARD,
        "WildGuardTest responses",
        "ODC-By-1.0",
        _wildguardtest_response,
        cautions="Rows without a label of the response's harm are left out; refusal is reported for the others, "
        "where published tables take all that have a refusal label.",
    ),
    "xstest_response": _of(
        Hub("allenai/xstest-response", "response_harmfulness"),
        "XSTest responses",
        "ODC-By-1.0",
        _xstest_response,
        published=(446, 78),
        cautions="The licence was not confirmed; the data set is gated.",
    ),
    "or_bench_hard": _of(
        Hub("bench-llm/or-bench", "train", "or-bench-hard-1k", _OR_BENCH_REVISION),
        "OR-Bench hard prompts",
        "CC-BY-4.0",
        _or_bench_hard,
        published=(1319, 0),
        cautions="Written by models and judged safe by a jury of models; some are not.",
    ),
    "or_bench_toxic": _of(
        Hub("bench-llm/or-bench", "train", "or-bench-toxic", _OR_BENCH_REVISION),
        "OR-Bench toxic prompts",
        "CC-BY-4.0",
        _or_bench_toxic,
        published=(655, 655),
        cautions="Written by models and judged toxic by a jury of models.",
    ),
}
