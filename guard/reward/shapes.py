"""The shapes in which public preference data come, each as a canonical reward row. A shape is known by its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from guard.errors import InvalidInput

Plain = Mapping[str, Any]
_HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def canonical(plain: Plain) -> Plain:
    """The row with the columns of guard.reward.row; as it is where its shape is none of these."""
    for columns, convert in _SHAPES:
        if all(plain.get(name) is not None for name in columns):
            return convert(plain)
    return plain


def _best_of(plain: Plain) -> Plain:
    """RewardBench 2: any of the chosen answers is better than any of the rejected ones."""
    chosen, rejected = _texts(plain["chosen"]), _texts(plain["rejected"])
    rank = [1] * len(chosen) + [2] * len(rejected)
    return {**_rest(plain, "chosen", "rejected"), "responses": [*chosen, *rejected], "rank": rank}


def _helpsteer(plain: Plain) -> Plain:
    """HelpSteer 1 and 2: an answer with five attributes."""
    attributes = {name: plain[name] for name in _HELPSTEER if plain.get(name) is not None}
    return {**_rest(plain, *_HELPSTEER), "attributes": attributes}


def _strength(prompt: str, first: str, second: str, strength: str) -> Callable[[Plain], Plain]:
    """HelpSteer2-Preference and HelpSteer3: above zero the second answer is better, by so much."""

    def convert(plain: Plain) -> Plain:
        value = plain[strength]
        rest = {**_rest(plain, first, second, strength, prompt), "prompt": plain[prompt]}
        if not value:
            return {**rest, "responses": [plain[first], plain[second]], "rank": [1, 1]}
        better, worse = (second, first) if value > 0 else (first, second)
        return {**rest, "chosen": plain[better], "rejected": plain[worse], "margin": abs(value)}

    return convert


def _ultrafeedback(plain: Plain) -> Plain:
    """UltraFeedback: several answers with an overall score each."""
    answers = [each for each in plain["completions"] if each.get("overall_score") is not None]
    ranking = {
        "responses": [each["response"] for each in answers],
        "rank": [-each["overall_score"] for each in answers],
    }
    return {**_rest(plain, "completions", "instruction"), "prompt": plain["instruction"], **ranking}


def _conversations(plain: Plain) -> Plain:
    """UltraFeedback binarized, and every pair of whole conversations: the last message is the answer."""
    sides = {}
    for side in ("chosen", "rejected"):
        *before, answer = plain[side]
        if not isinstance(answer, Mapping) or answer.get("role") != "assistant":
            raise InvalidInput(f"the last message of `{side}` is not the assistant's")
        sides[side] = (before, answer.get("content"))
    prompt = sides["chosen"][0] or plain.get("prompt")
    if sides["rejected"][0] and sides["rejected"][0] != sides["chosen"][0]:
        raise InvalidInput("`chosen` and `rejected` are conversations that differ before their last messages")
    scores = [plain.get(f"score_{side}") for side in ("chosen", "rejected")]
    known = all(isinstance(score, int | float) for score in scores)
    margin = {"margin": max(0.0, scores[0] - scores[1])} if known else {}  # type: ignore[operator]
    return {**plain, "prompt": prompt, "chosen": sides["chosen"][1], "rejected": sides["rejected"][1], **margin}


def _saferlhf(plain: Plain) -> Plain:
    """PKU-SafeRLHF: the safer of two answers is chosen."""
    answers = [plain["response_0"], plain["response_1"]]
    safer = int(plain["safer_response_id"])
    return {**_rest(plain, "response_0", "response_1"), "chosen": answers[safer], "rejected": answers[1 - safer]}


def _texts(value: object) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _rest(plain: Plain, *names: str) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if name not in names}


def _is_list(name: str, of: type) -> Callable[[Plain], bool]:
    return lambda plain: isinstance(plain.get(name), list) and all(isinstance(each, of) for each in plain[name])


def _by_contents(plain: Plain) -> Plain:
    """`chosen` as a list: of texts in RewardBench 2, of messages in a pair of conversations."""
    if _is_list("chosen", str)(plain):
        return _best_of(plain)
    if isinstance(plain["chosen"], list) and len(plain["chosen"]) > 1:
        return _conversations(plain)
    return plain


_SHAPES: Sequence[tuple[tuple[str, ...], Callable[[Plain], Plain]]] = (
    (("prompt", "response_0", "response_1", "safer_response_id"), _saferlhf),
    (("prompt", "response_1", "response_2", "preference_strength"),
     _strength("prompt", "response_1", "response_2", "preference_strength")),
    (("context", "response1", "response2", "overall_preference"),
     _strength("context", "response1", "response2", "overall_preference")),
    (("prompt", "response", "helpfulness", "verbosity"), _helpsteer),
    (("instruction", "completions"), _ultrafeedback),
    (("chosen", "rejected"), _by_contents),
)  # fmt: skip
