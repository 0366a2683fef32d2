"""Named readers, for the few sources whose format the declarative rules cannot express.

A reader maps the records of a source's files, in order, to the records to which the description is applied.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby

from guard.data.sources.comment_readers import COMMENT_READERS
from guard.data.sources.excerpts import installed_texts
from guard.data.sources.formats import Record
from guard.data.sources.hub_readers import HUB_READERS, dialogue_turns
from guard.data.sources.rule_readers import plain_posts, rule_posts
from guard.data.sources.seed_documents import seed_documents
from guard.data.sources.seed_readers import SEED_READERS
from guard.errors import DataError

Reader = Callable[[Iterable[Record]], Iterator[Record]]

_REFUSAL = re.compile(
    r"i'm sorry|im sorry|i’m sorry|i cannot|i can't|i can’t|i apologi[sz]e|as an ai|i am unable|i'm unable"
    r"|not able to (?:assist|help|provide)|cannot (?:fulfill|provide|assist|help)"
    r"|it is (?:not|never) (?:appropriate|ethical|acceptable|advisable|recommended|legal)"
    r"|is illegal and|is unethical and",
    re.IGNORECASE,
)
_REFUSAL_WINDOW = 300  # characters in which a refusal phrase is looked for
_SHORTEST_ANSWER = 80  # characters; a shorter answer to a harmful question rarely holds the harm itself
_ANSWER = "\n\nAssistant:"
_CJK = re.compile("[\u4e00-\u9fff]")


def refuses(response: str) -> bool:
    """Whether an answer opens with one of the usual refusal phrases."""
    return _REFUSAL.search(response[:_REFUSAL_WINDOW]) is not None


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int, str]]:
    """(keys, position in its list, text) of every string in nested objects and lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            if isinstance(inner, str):
                yield path, position, inner
            else:
                yield from _leaves(inner, path)


def nested_lists(records: Iterable[Record]) -> Iterator[Record]:
    """Nested objects of lists of strings, of any depth: `text`, `topic` (keys joined by " / ") and `position`."""
    for record in records:
        for number, (path, position, text) in enumerate(_leaves(record.mapping("value")), 1):
            topic = " / ".join(key.rstrip(":") for key in path)
            yield record.entry(number, {"text": text, "topic": topic, "position": f"{topic} / {position}"})


def answers_by_prompt(records: Iterable[Record]) -> Iterator[Record]:
    """An object from prompt to answer: `prompt`, `response` and `answer` (given or refused)."""
    for record in records:
        for number, (prompt, response) in enumerate(record.mapping("value").items(), 1):
            entry = record.entry(number, {"prompt": prompt, "response": response})
            yield entry.adding(answer="refused" if refuses(entry.text("response")) else "given")


def human_assistant(records: Iterable[Record]) -> Iterator[Record]:
    """Prompts in the form `Human: ... Assistant:`: `prompt`, `response` and `answer` (given, refused or short)."""
    for record in records:
        prompt = record.text("prompts").strip().removeprefix("Human: ").removesuffix("Assistant:")
        response = record.text("results").strip()
        answer = "refused" if refuses(response) else "short" if len(response) < _SHORTEST_ANSWER else "given"
        yield record.adding(prompt=prompt, response=response, answer=answer)


def language_columns(records: Iterable[Record]) -> Iterator[Record]:
    """Rows with one column per language (two letters): one record each, with `text`, `language` and a list `tags`."""
    for record in records:
        try:
            tags = ast.literal_eval(record.text("tags"))
        except (ValueError, SyntaxError):
            tags = None
        if not isinstance(tags, list):
            raise DataError(f"{record.place}: `tags` must be a list of strings, written as in Python")
        for name, value in record.fields.items():
            if re.fullmatch("[a-z]{2}", name) and name != "id":
                yield record.adding(text=value, language=name, tags=tags)


def embedded_targets(records: Iterable[Record]) -> Iterator[Record]:
    """Objects from target group to rows: adds `language`, by script, and `template`, the context without its target.

    Where the same texts carry both labels, unsafe wins: a doubtful response is no good example of a safe one.
    """
    entries = []
    for record in records:
        rows = [(target, row) for target, rows in record.mapping("value").items() for row in rows]
        for number, (target, row) in enumerate(rows, 1):
            entry = record.entry(number, row)
            language = "zh" if _CJK.search(entry.text("response")) else "en"
            entries.append(entry.adding(language=language, template=entry.text("context").replace(target, "_")))
    unsafe = {_texts(entry) for entry in entries if entry.text("safety") == "unsafe"}
    for entry in entries:
        yield entry.adding(safety="unsafe") if _texts(entry) in unsafe else entry


def _texts(record: Record) -> tuple[str, str]:
    return record.text("context").strip(), record.text("response").strip()


def violating_and_safe(records: Iterable[Record]) -> Iterator[Record]:
    """Questions with a violating and a safe answer: two records with `response` and `answer` (violating or safe)."""
    for record in records:
        yield record.adding(response=record.text("违规回答"), answer="violating")
        yield record.adding(response=record.text("安全有用回答"), answer="safe")


def answer_pairs(records: Iterable[Record]) -> Iterator[Record]:
    """Questions with a violating and a safe answer as pairs: `chosen` is the safe one, `rejected` the violating one."""
    for record in records:
        yield record.adding(chosen=record.text("安全有用回答"), rejected=record.text("违规回答"))


def dialogue_pairs(records: Iterable[Record]) -> Iterator[Record]:
    """Pairs of dialogues in the form `Human: ... Assistant: ...` that differ in their last response.

    Adds `prompt` (what precedes the last response of `chosen`) and its `turns`; `chosen` and `rejected` become the two
    responses.
    """
    for record in records:
        prompt, _, chosen = record.text("chosen").rpartition(_ANSWER)
        rejected = record.text("rejected").rpartition(_ANSWER)[2]
        yield record.adding(prompt=prompt.strip(), chosen=chosen, rejected=rejected, turns=dialogue_turns(prompt))


def questions_by_index(records: Iterable[Record]) -> Iterator[Record]:
    """Answers joined by index with the question list, which is read first: adds `prompt`."""
    questions: dict[str, str] = {}
    for record in records:
        if "text" in record.fields:
            questions[record.text("index")] = record.text("text")
        elif record.text("question") not in questions:
            raise DataError(f"{record.place}: its question index is not in the question list")
        else:
            yield record.adding(prompt=questions[record.text("question")])


def dashed_lines(records: Iterable[Record]) -> Iterator[Record]:
    """Lines without their leading dash."""
    for record in records:
        yield record.adding(text=record.text("text").lstrip("- "))


def squad_questions(records: Iterable[Record]) -> Iterator[Record]:
    """Articles in the format of SQuAD: one record for each `question`, with its `id`."""
    for record in records:
        paragraphs = [record.entry(record.number, paragraph) for paragraph in record.sequence("paragraphs")]
        entries = [entry for paragraph in paragraphs for entry in paragraph.sequence("qas")]
        fields = {name: value for name, value in record.fields.items() if name != "paragraphs"}
        article = replace(record, where=f"{record.where} article {record.number}", fields=fields)
        for number, entry in enumerate(entries, 1):
            yield article.entry(number, entry)


def request_splits(records: Iterable[Record]) -> Iterator[Record]:
    """An object of splits, each a list of [text, intent]: `text` and `intent` of the splits val and oos_test."""
    for record in records:
        splits = replace(record, fields=record.mapping("value"))
        entries = [entry for split in ("val", "oos_test") for entry in splits.sequence(split)]
        for number, (text, intent) in enumerate(entries, 1):
            yield record.entry(number, {"text": text, "intent": intent})


def hidden_instructions(records: Iterable[Record]) -> Iterator[Record]:
    """Emails, each alone, then again with an instruction behind or before it: `text` and `injected` (yes or no).

    The files of a part come together: those of emails, then that of the instructions, an object of lists. The j-th
    instruction, from 0, goes with the email j modulo their number: behind it if j is even, else before it.
    """
    for _, part in groupby(records, key=lambda record: record.fields.get("part")):
        emails: list[Record] = []
        for record in part:
            if "context" in record.fields:
                emails.append(record)
                yield record.adding(text=record.text("context"), injected="no")
                continue
            instructions = [text for listed in record.mapping("value").values() for text in listed]
            for number, instruction in enumerate(instructions):
                email = emails[number % len(emails)].text("context")
                texts = (instruction, email) if number % 2 else (email, instruction)
                yield record.entry(number + 1, {"text": "\n".join(texts), "injected": "yes"})


def answers_over_refusals(records: Iterable[Record]) -> Iterator[Record]:
    """Pairs of answers, those alone whose `rejected` refuses and whose `chosen` does not."""
    for record in records:
        if refuses(record.text("rejected")) and not refuses(record.text("chosen")):
            yield record


READERS: dict[str, Reader] = (
    {
        reader.__name__: reader
        for reader in (
            nested_lists,
            answers_by_prompt,
            human_assistant,
            language_columns,
            embedded_targets,
            violating_and_safe,
            answer_pairs,
            dialogue_pairs,
            questions_by_index,
            dashed_lines,
            squad_questions,
            request_splits,
            hidden_instructions,
            answers_over_refusals,
            installed_texts,
            seed_documents,
            rule_posts,
            plain_posts,
        )
    }
    | HUB_READERS
    | COMMENT_READERS
    | SEED_READERS
)
