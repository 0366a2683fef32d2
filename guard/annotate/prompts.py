"""The judge's prompts, and the parsers of its answers. Judged texts are quoted between delimiters they cannot forge."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from guard import schema
from guard.assets import asset
from guard.conversation import Conversation, Message, Role
from guard.errors import VerdictError
from guard.policy import Policy, ordered
from guard.prompts.grammar import parse

LAYOUT = 1  # to be incremented when the questions change for a reason outside the template
Messages = tuple[Message, ...]
# Two points for a much better answer, one for a better one; above zero the first answer wins.
POINTS = {"A>>B": 2, "A>B": 1, "A=B": 0, "B>A": -1, "B>>A": -2}
_MARK = re.compile(r"\[\[(A>>B|A>B|A=B|B>A|B>>A)\]\]")


@dataclass(frozen=True, slots=True)
class LabelWords:
    __pydantic_config__ = schema.STRICT

    system: str
    question: str
    marker: str
    reminder: str


@dataclass(frozen=True, slots=True)
class CompareWords:
    __pydantic_config__ = schema.STRICT

    system: str
    criterion: str
    question: str
    prompt: str
    first: str
    second: str
    reminder: str


@dataclass(frozen=True, slots=True)
class Template:
    """The wording of the questions (taxonomy/templates/judge-v1.yaml)."""

    __pydantic_config__ = schema.STRICT

    id: str
    policy: str
    category: str
    includes: str
    excludes: str
    quote: str
    roles: Mapping[Role, str]
    label: LabelWords
    compare: CompareWords


TEMPLATE = schema.load(asset("taxonomy/templates/judge-v1.yaml"), Template)
TEMPLATE_DIGEST = hashlib.sha256(
    json.dumps({"layout": LAYOUT, "template": dataclasses.asdict(TEMPLATE)}, sort_keys=True).encode()
).hexdigest()


def fence(texts: Sequence[str], digits: int = 16) -> str:
    """A delimiter that occurs in none of `texts`; equal texts have equal delimiters."""
    digest = hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
    while any(digest[:digits] in text for text in texts):
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return digest[:digits]


def policy_text(policy: Policy) -> str:
    lines = []
    for category in policy.categories:
        lines.append(TEMPLATE.category.format(code=category.code, name=category.name, definition=category.definition))
        lines += [TEMPLATE.includes.format(line=line) for line in category.includes]
        lines += [TEMPLATE.excludes.format(line=line) for line in category.excludes]
    return TEMPLATE.policy.format(categories="\n".join(lines))


def label_question(conversation: Conversation, policy: Policy) -> Messages:
    """The messages that ask for a verdict on the last message."""
    mark = fence([message.content for message in conversation.messages])
    quotes = [(TEMPLATE.roles[message.role], message.content) for message in conversation.messages]
    question = TEMPLATE.label.question.format(
        policy=policy_text(policy),
        mark=mark,
        quotes=_quoted(quotes, mark),
        role=TEMPLATE.roles[conversation.judged.role],
        marker=TEMPLATE.label.marker,
        example=",".join(ordered(policy, policy.codes)[:2]),
    )
    return Message("system", TEMPLATE.label.system), Message("user", question)


def compare_question(prompt: str, first: str, second: str, criterion: str, policy: Policy | None) -> Messages:
    """The messages that ask which of two answers is better; `first` is answer A."""
    words = TEMPLATE.compare
    mark = fence([prompt, first, second])
    question = words.question.format(
        criterion=criterion,
        policy=f"{policy_text(policy)}\n\n" if policy else "",
        mark=mark,
        quotes=_quoted([(words.prompt, prompt), (words.first, first), (words.second, second)], mark),
    )
    return Message("system", words.system), Message("user", question)


def _quoted(quotes: Sequence[tuple[str, str]], mark: str) -> str:
    return "\n\n".join(TEMPLATE.quote.format(mark=mark, what=what, text=text) for what, text in quotes)


def reminded(messages: Messages, answer: str, reminder: str) -> Messages:
    """The messages again, after an answer that could not be parsed."""
    if answer.strip():
        return *messages, Message("assistant", answer), Message("user", reminder)
    return *messages[:-1], Message("user", f"{messages[-1].content}\n\n{reminder}")  # many models refuse an empty turn


def parse_verdict(answer: str, policy: Policy, bare: bool = False) -> tuple[tuple[str, ...], str]:
    """(codes, reason): no codes for safe. After the last marker must follow a verdict with its codes, and nothing else.

    bare: the whole answer may be the verdict. VerdictError if there is none.
    """
    marker = TEMPLATE.label.marker
    start = f"\n{answer}".rfind(f"\n{marker}")
    if start >= 0:
        reason, text = answer[:start], answer[start + len(marker) :]
    elif bare:
        reason, text = "", answer
    else:
        raise VerdictError(f"no line {marker!r} in the judge's answer ({len(answer)} characters)")
    unsafe, codes = parse(text, policy)
    if unsafe and not codes:
        raise VerdictError("the judge names no category; every unsafe message falls under one of the policy's")
    return codes, reason.strip()


def parse_mark(answer: str) -> tuple[str, str]:
    """(mark, reason): the one mark of the last line, a key of POINTS. VerdictError if there is not exactly one."""
    reason, _, last = answer.strip().rpartition("\n")
    marks = _MARK.findall(last)
    if len(marks) != 1:
        raise VerdictError(f"{len(marks)} marks in the last line of the judge's answer; expected one")
    return marks[0], reason.strip()
