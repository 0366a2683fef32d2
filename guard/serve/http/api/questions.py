"""Questions in words as categories of a policy, and their scores as probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from guard.conversation import Conversation
from guard.errors import InvalidInput, UnknownPolicy
from guard.policy import MOST_CATEGORIES, Category, Policy
from guard.serve.core.request import Options, Request
from guard.serve.http.translator import Judged
from guard.verdict import Outcome, Verdict, log_odds

MOST_QUESTIONS = 400
NATIVE = "policy:"  # of a predicate that names a policy, or a category of one: `policy:NAME` or `policy:NAME#CODE`
MOST_CHARACTERS = 4000  # of one statement
_LINE, _WORD = 600, 80  # what a category's fields hold
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, repr=False)
class Statement:
    """What may be true of the content, in words; `name` is a short title, `excludes` what does not count."""

    name: str
    text: str
    excludes: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Question:
    """A predicate has one statement, a choice or a scale one for each option. native: a predicate's `policy:` name."""

    kind: Literal["predicate", "choice", "score"]
    statements: tuple[Statement, ...]
    native: str | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """The probability of each statement: of a predicate's by itself, of options relative to one another.

    None: a part of the content could not be judged, and what was judged does not decide.
    """

    probabilities: tuple[float, ...]

    @property
    def best(self) -> int:
        return max(range(len(self.probabilities)), key=lambda index: self.probabilities[index])

    @property
    def mean(self) -> float:
        """The expected level of a scale."""
        return sum(level * p for level, p in enumerate(self.probabilities))


def predicate(instructions: str, name: str, excludes: str = "", where: str = "questions") -> Question:
    """A predicate. Raises InvalidInput where its words say nothing, or too much."""
    if instructions.startswith(NATIVE):
        return Question("predicate", (), instructions.removeprefix(NATIVE).strip())
    return Question("predicate", (_statement(name or instructions, instructions, where, excludes),))


def options(
    kind: Literal["choice", "score"], instructions: str, labels: Sequence[tuple[str, str]], where: str
) -> Question:
    """A choice or a scale between labels, each with a description that may be empty."""
    statements = [
        _statement(label, ": ".join(filter(None, (instructions, label, description))), f"{where}[{index}]")
        for index, (label, description) in enumerate(labels)
    ]
    return Question(kind, tuple(statements))


def _statement(name: str, text: str, where: str, excludes: str = "") -> Statement:
    if len(text) > MOST_CHARACTERS:
        raise InvalidInput(f"{where} has {len(text)} characters, must be <= {MOST_CHARACTERS}")
    if not _line(text):
        raise InvalidInput(f"{where} has no text; say what to look for")
    return Statement(_line(name) or _line(text), _line(text), _line(excludes[:MOST_CHARACTERS]))


def requests(conversation: Conversation, questions: Sequence[Question]) -> tuple[Request, ...]:
    """One request for all questions in words, and one for each policy that is named."""
    made = [Request((conversation,), Options(policy))] if (policy := _policy(questions)) else []
    natives = dict.fromkeys(question.native.partition("#")[0] for question in questions if question.native is not None)
    return tuple(made + [Request((conversation,), Options(name)) for name in natives])


def opinions(questions: Sequence[Question], judged: Sequence[Judged]) -> Iterator[Opinion | None]:
    """The opinion on each question, from the answers to `requests`. Raises the error of an answer.

    Raises UnknownPolicy for a category that a named policy lacks.
    """
    verdicts = [each.verdicts[0] for each in judged]
    names = dict.fromkeys(question.native.partition("#")[0] for question in questions if question.native is not None)
    named = dict(zip(names, range(len(judged) - len(names), len(judged)), strict=True))
    code = 0
    for question in questions:
        if question.native is not None:
            name, _, category = question.native.partition("#")
            verdict = verdicts[named[name]]
            yield _opinion(question, verdict, [_native(verdict, judged[named[name]].policy, category)])
        else:
            codes = [_code(code + index) for index in range(len(question.statements))]
            code += len(codes)
            yield _opinion(question, verdicts[0], [verdicts[0].categories[each] for each in codes])


def tokens(judged: Sequence[Judged]) -> int:
    """The tokens of the content."""
    return max((verdict.coverage.tokens_total for each in judged for verdict in each.verdicts), default=0)


def _native(verdict: Verdict, policy: Policy, category: str) -> float:
    if not category:
        return verdict.p_enforced
    if category not in verdict.categories:
        raise UnknownPolicy(f"policy {policy.id} has no category {category[:48]!r}; known: {', '.join(policy.codes)}")
    watched = verdict.monitor.codes if verdict.monitor else ()
    return 0.0 if category in watched else verdict.categories[category]


def _opinion(question: Question, verdict: Verdict, probabilities: Sequence[float]) -> Opinion | None:
    decided = verdict.complete or verdict.outcome is Outcome.SAFE
    if question.kind == "predicate":
        # What was judged may say yes; no would speak of the rest as well.
        return Opinion(tuple(probabilities)) if decided or probabilities[0] >= 0.5 else None
    if not decided:
        return None
    odds = [math.exp(log_odds(p)) for p in probabilities]
    return Opinion(tuple(each / sum(odds) for each in odds))


def _policy(questions: Sequence[Question]) -> Policy | None:
    statements = [statement for question in questions for statement in question.statements]
    if len(statements) > MOST_CATEGORIES:
        raise InvalidInput(f"the questions have {len(statements)} options in all, must be <= {MOST_CATEGORIES}")
    categories = [_category(_code(index), statement) for index, statement in enumerate(statements)]
    return Policy("questions", "1", "Questions", tuple(categories)) if categories else None


def _code(index: int) -> str:
    return f"Q{index + 1}"


def _category(code: str, statement: Statement) -> Category:
    definition, *includes = _wrapped(statement.text)
    return Category(
        code, statement.name[:_WORD].strip(), definition, tuple(includes), tuple(_wrapped(statement.excludes))
    )


def _line(text: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def _wrapped(text: str) -> list[str]:
    """The text in lines that a category can hold, cut between words where there are any."""
    lines = []
    while len(text) > _LINE:
        cut = text.rfind(" ", 1, _LINE) if " " in text[1:_LINE] else _LINE
        lines.append(text[:cut].strip())
        text = text[cut:].strip()
    return [*lines, text] if text else lines
