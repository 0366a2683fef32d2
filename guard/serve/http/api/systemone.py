"""System One's `POST /v1/systemone`: named questions about a state, answered as `decisions` are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from guard.conversation import Conversation
from guard.errors import InvalidInput
from guard.serve.core.errors import Unjudged
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

_ANY = {"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "array"}]}
Words = Annotated[Any, WithJsonSchema(_ANY)]


class NoulQuestion(Body):
    type: Literal["noul"]
    instructions: Words = None
    criteria: dict[Literal["true", "false"], Words] | None = None


class LabelQuestion(Body):
    type: Literal["choice"]
    instructions: Words = None
    criteria: Annotated[dict[str, Words], Field(min_length=1, max_length=255)]


class ScaleQuestion(Body):
    type: Literal["score"]
    instructions: Words = None
    criteria: Annotated[list[Words], Field(min_length=1, max_length=10)]


NamedQuestion = Annotated[NoulQuestion | LabelQuestion | ScaleQuestion, Field(discriminator="type")]


class SystemoneBody(Body):
    model: str
    state: Annotated[Any, WithJsonSchema(_ANY)]
    questions: Annotated[dict[str, NamedQuestion], Field(min_length=1, max_length=MOST_QUESTIONS)]


def plan(sent: SystemoneBody, context: Context) -> Work:
    models.options(sent.model, context)  # raises for an unknown model; questions bring their own policies
    conversation = _conversation(sent.state)
    questions = [_question(name, each) for name, each in sent.questions.items()]

    def reply(judged: Sequence[Judged]) -> Any:
        answers = {}
        for (name, each), opinion in zip(sent.questions.items(), opinions(questions, judged), strict=True):
            if opinion is None:
                raise Unjudged(conversation.unjudged)
            answers[name] = _answer(each, opinion)
        usage = {"input_tokens": tokens(judged), "output_tokens": 0}
        return {"model": models.name(context), "answers": answers, "usage": usage}

    return Work(requests(conversation, questions), reply)


def _conversation(state: Any) -> Conversation:
    """A text as it is, messages as a conversation, anything else as JSON."""
    if isinstance(state, list) and state and all(isinstance(each, dict) and "role" in each for each in state):
        return Conversation.from_messages(state, "state")
    if not isinstance(state, str | dict | list) or not state:
        raise InvalidInput("state must be a string, an object or a list, and not empty")
    return Conversation.of(_text(state))


def _text(words: Any) -> str:
    if words is None:
        return ""
    return words if isinstance(words, str) else json.dumps(words, ensure_ascii=False)


def _question(name: str, sent: NoulQuestion | LabelQuestion | ScaleQuestion) -> Question:
    words = _text(sent.instructions)
    if isinstance(sent, NoulQuestion):
        criteria = sent.criteria or {}
        said = "\n".join(filter(None, (words, _text(criteria.get("true")))))
        return predicate(said, name, _text(criteria.get("false")), "questions: a noul")
    if isinstance(sent, LabelQuestion):
        labels = [(label, _text(description)) for label, description in sent.criteria.items()]
        return options("choice", words, labels, "questions: a choice's criteria")
    return options("score", words, [(_text(level), "") for level in sent.criteria], "questions: a score's criteria")


def _answer(sent: NoulQuestion | LabelQuestion | ScaleQuestion, opinion: Opinion) -> dict[str, Any]:
    if isinstance(sent, NoulQuestion):
        return {"type": "noul", "noul": opinion.probabilities[0]}
    confidence = opinion.probabilities[opinion.best]
    if isinstance(sent, LabelQuestion):
        probabilities = dict(zip(sent.criteria, opinion.probabilities, strict=True))
        choice = list(sent.criteria)[opinion.best]
        return {"type": "choice", "choice": choice, "confidence": confidence, "probabilities": probabilities}
    levels = [str(level) for level in range(len(sent.criteria))]
    return {
        "type": "score",
        "score": opinion.mean,
        "confidence": confidence,
        "legend": dict(zip(levels, sent.criteria, strict=True)),
        "probabilities": dict(zip(levels, opinion.probabilities, strict=True)),
    }


TRANSLATOR = Translator(
    path="/v1/systemone",
    summary="System One's decisions: named yes/no questions, choices and scores about a state",
    body=SystemoneBody,
    plan=plan,
    error=error,
    response={
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "answers": {"type": "object", "additionalProperties": {"type": "object"}},
            "usage": {"type": "object"},
        },
    },
    statuses={},
)
