"""OpenAI's `POST /v1/decisions`: questions in words about an input, answered by the guard's probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from guard.conversation import Conversation
from guard.errors import InvalidInput
from guard.serve.http import models
from guard.serve.http.api.openai_error import error
from guard.serve.http.api.questions import (
    MOST_QUESTIONS,
    Opinion,
    Question,
    opinions,
    options,
    predicate,
    requests,
    tokens,
)
from guard.serve.http.translator import Body, Context, Judged, Translator, Work

_ITEMS = {"type": "array", "minItems": 1, "items": {"type": "object"}}
_INPUT = {
    "anyOf": [{"type": "string"}, _ITEMS],
    "description": "A text, or messages, function calls and their outputs. The last one is judged, in its context.",
}
_WORDS = {"anyOf": [{"type": "string"}, _ITEMS], "description": "A text, or parts input_text and input_json."}
Words = Annotated[Any, WithJsonSchema(_WORDS)]


class PredicateQuestion(Body):
    type: Literal["predicate"]
    instructions: Words
    name: str | None = None


class Choice(Body):
    value: str | bool
    description: str | None = None


class ChoiceQuestion(Body):
    type: Literal["choice"]
    instructions: Words
    choices: Annotated[list[Choice], Field(min_length=2, max_length=255)]
    name: str | None = None


class Level(Body):
    label: str
    description: str | None = None


class ScoreQuestion(Body):
    type: Literal["score"]
    instructions: Words
    levels: Annotated[list[Level], Field(min_length=2, max_length=255)]
    name: str | None = None


AnyQuestion = Annotated[PredicateQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class DecisionsBody(Body):
    model: str
    input: Annotated[Any, WithJsonSchema(_INPUT)]
    questions: Annotated[list[AnyQuestion], Field(min_length=1, max_length=MOST_QUESTIONS)]
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None


def plan(sent: DecisionsBody, context: Context) -> Work:
    models.options(sent.model, context)  # raises for an unknown model; questions bring their own policies
    conversation = _conversation(sent.input)
    questions = [_question(each, f"questions[{index}]") for index, each in enumerate(sent.questions)]

    def reply(judged: Sequence[Judged]) -> Any:
        answers = [
            _answer(each, opinion) for each, opinion in zip(sent.questions, opinions(questions, judged), strict=True)
        ]
        return {"model": models.name(context), "answers": answers, "usage": _usage(tokens(judged))}

    return Work(requests(conversation, questions), reply)


def _conversation(given: Any) -> Conversation:
    if isinstance(given, str):
        return Conversation.of(given)
    if not isinstance(given, list):
        raise InvalidInput("input must be a string or a list of messages")
    if not given:
        raise InvalidInput("input must not be empty")
    return Conversation.from_messages(given, "input")


def _question(sent: PredicateQuestion | ChoiceQuestion | ScoreQuestion, where: str) -> Question:
    words = _words(sent.instructions, f"{where}.instructions")
    if isinstance(sent, PredicateQuestion):
        return predicate(words, sent.name or "", where=f"{where}.instructions")
    if isinstance(sent, ChoiceQuestion):
        if len({(type(each.value), each.value) for each in sent.choices}) < len(sent.choices):
            raise InvalidInput(f"{where}.choices must be unique")
        labels = [(_text(each.value), each.description or "") for each in sent.choices]
        return options("choice", words, labels, f"{where}.choices")
    return options("score", words, [(each.label, each.description or "") for each in sent.levels], f"{where}.levels")


def _words(given: Any, where: str) -> str:
    """The text of instructions: a string, or parts of which none is an image."""
    if isinstance(given, str):
        return given
    if not isinstance(given, list) or not given:
        raise InvalidInput(f"{where} must be a string or a list of parts")
    words = []
    for index, part in enumerate(given):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "input_text" and isinstance(part.get("text"), str):
            words.append(part["text"])
        elif kind == "input_json" and isinstance(part.get("data"), dict | list):
            words.append(json.dumps(part["data"], ensure_ascii=False))
        else:
            raise InvalidInput(f"{where}[{index}] must be of type input_text with a `text`, or input_json with `data`")
    return "\n".join(words)


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else str(value).lower()


def _answer(sent: PredicateQuestion | ChoiceQuestion | ScoreQuestion, opinion: Opinion | None) -> dict[str, Any]:
    if opinion is None:
        return {"type": "refusal", "name": sent.name}
    if isinstance(sent, PredicateQuestion):
        return {"type": "predicate", "name": sent.name, "probability": opinion.probabilities[0]}
    shared = {"type": sent.type, "name": sent.name, "confidence": opinion.probabilities[opinion.best]}
    if isinstance(sent, ChoiceQuestion):
        values = [each.value for each in sent.choices]
        each_value = zip(values, opinion.probabilities, strict=True)
        probabilities = [{"value": value, "probability": p} for value, p in each_value]
        return {**shared, "choice": values[opinion.best], "probabilities": probabilities}
    each_level = enumerate(zip(sent.levels, opinion.probabilities, strict=True))
    probabilities = [{"value": value, "label": level.label, "probability": p} for value, (level, p) in each_level]
    return {**shared, "score": opinion.mean, "probabilities": probabilities}


def _usage(given: int) -> dict[str, Any]:
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given,
    }


TRANSLATOR = Translator(
    path="/v1/decisions",
    summary="OpenAI's decisions API: predicates, choices and scores in words, or `policy:NAME#CODE`",
    body=DecisionsBody,
    plan=plan,
    error=error,
    response={
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "answers": {"type": "array", "items": {"type": "object"}},
            "usage": {"type": "object"},
        },
    },
    statuses={},
)
