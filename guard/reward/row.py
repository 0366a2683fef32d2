"""The canonical reward row: a prompt with an answer, a pair of answers or a ranking, and who labelled it.

JSON: `prompt` (a text, or messages) and, as far as known, `response` (or `completion`), `chosen` and `rejected`,
`responses` and `rank` (1 is best), `label` (true is desirable), `verdict` and `categories` of the response,
`attributes`, `margin`, `critique`, `chosen_critique`, `rejected_critique`, `weight`, `group`, `subset`, `source`,
`opinions`. An answer may be a text or a list of one assistant message, as TRL writes it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from guard.conversation import Label, Message, parse_messages
from guard.errors import InvalidInput

Side = Literal["chosen", "rejected", "tie"]
Kind = Literal["human", "judge"]
TEXTS = ("response", "chosen", "rejected", "critique", "chosen_critique", "rejected_critique")
ANSWERS = ("response", "chosen", "rejected")


@dataclass(frozen=True, slots=True, repr=False)
class Opinion:
    """What one rater said about a row: which side of a pair is better, or whether a single answer is desirable.

    by: the rater, like `human` or a judge's model. template: the digest of a judge's question, if it is known.
    """

    by: str
    kind: Kind
    prefers: Side | None = None
    label: bool | None = None
    template: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class RewardRow:
    """Everything but the prompt is optional; `columns` names what a row has.

    group: the prompt that derived rows come from; their weights add up to the weight of that row. margin: by how much
    `chosen` is better, >= 0.
    """

    id: str
    prompt: tuple[Message, ...]
    response: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    responses: tuple[str, ...] = ()
    rank: tuple[float, ...] = ()
    label: bool | None = None
    verdict: Label | None = None
    categories: frozenset[str] | None = None
    attributes: Mapping[str, float] = field(default_factory=dict)
    margin: float | None = None
    critique: str | None = None
    chosen_critique: str | None = None
    rejected_critique: str | None = None
    weight: float = 1.0
    group: str = ""
    subset: str = ""
    source: str = ""
    opinions: tuple[Opinion, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that have a value; a text of spaces is none."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return tuple(
            name
            for name, value in values.items()
            if value not in (None, (), "", {}) and not (isinstance(value, str) and not value.strip())
        )

    @property
    def prompt_key(self) -> str:
        """A digest of the prompt, by which rows are grouped and held out."""
        return digest([[message.role, message.content] for message in self.prompt])

    @property
    def pair_key(self) -> str:
        """A digest of the prompt and the pair of answers; ids may occur twice."""
        return digest([self.prompt_key, self.chosen, self.rejected])

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer of the row."""
        return (*(text for name in ANSWERS if (text := getattr(self, name)) is not None), *self.responses)


def digest(value: object) -> str:
    """The first 16 hex digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def parse_row(plain: Mapping[str, Any], where: str = "row") -> RewardRow:
    """The row of a JSON object; unknown keys are ignored. InvalidInput names the column, and never shows its text.

    Without an `id` the row is named by a digest of its contents. A `judge` object, as `guard data judge` writes it,
    becomes an opinion.
    """
    prompt = _prompt(plain, where)
    label, verdict = _label(plain, where)
    texts: dict[str, str | None] = {name: _answer(plain.get(name), f"{where}.{name}") for name in TEXTS}
    if texts["response"] is None:
        texts["response"] = _answer(plain.get("completion"), f"{where}.completion")
    categories = plain.get("categories")
    known = {
        "prompt": prompt,
        **texts,
        "responses": tuple(
            _required(text, f"{where}.responses[{index}]") for index, text in enumerate(plain.get("responses") or ())
        ),
        "rank": tuple(_number(value, f"{where}.rank") for value in plain.get("rank") or ()),
        "label": label,
        "verdict": verdict,
        "categories": None if categories is None else frozenset(map(str, categories)),
        "attributes": _attributes(plain.get("attributes"), where),
        "margin": None if plain.get("margin") is None else _number(plain["margin"], f"{where}.margin"),
        "weight": 1.0 if plain.get("weight") is None else _number(plain["weight"], f"{where}.weight"),
        **{name: str(plain.get(name) or "") for name in ("group", "subset", "source")},
        "opinions": _opinions(plain, where),
    }
    own = plain.get("id")
    named = str(own) if own not in (None, "") else digest(json.loads(json.dumps(plain, default=str)))
    try:
        return RewardRow(id=named, **cast(Any, known))
    except InvalidInput as problem:
        raise InvalidInput(f"{where}: {problem}") from None


def plain_row(row: RewardRow) -> dict[str, Any]:
    """The JSON object of a row, which `parse_row` turns into an equal row."""
    plain: dict[str, Any] = {"id": row.id, "prompt": plain_messages(row.prompt)}
    for name in row.columns:
        value = getattr(row, name)
        if name in ("id", "prompt") or (name == "weight" and value == 1.0):
            continue
        match name:
            case "categories":
                value = sorted(value)
            case "opinions":
                value = [
                    {key: getattr(each, key) for key in each.__slots__ if getattr(each, key) not in (None, "")}
                    for each in value
                ]
            case "attributes":
                value = dict(value)
            case "responses" | "rank":
                value = list(value)
        plain[name] = value
    return plain


def plain_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


# -- parsing ----------------------------------------------------------------------------------------------------------


def _prompt(plain: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    prompt = plain.get("prompt")
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if prompt is None:
        raise InvalidInput(f"{where}: required column `prompt` is missing; give a text, or messages")
    try:
        return parse_messages(prompt, "prompt")
    except InvalidInput as problem:
        raise InvalidInput(f"{where}: {problem}") from None


def _answer(value: object, where: str) -> str | None:
    """The text of an answer; a list of one assistant message is read as its content."""
    if value is None or isinstance(value, str):
        return value
    messages = parse_messages(value, where)
    if len(messages) != 1 or messages[0].role != "assistant":
        raise InvalidInput(f"{where} must be a text, or one assistant message (got {len(messages)} messages)")
    return messages[0].content


def _required(value: object, where: str) -> str:
    text = _answer(value, where)
    if text is None:
        raise InvalidInput(f"{where} must be a text (got null)")
    return text


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{where} must be a number, not {type(value).__name__}")
    return float(value)


def _label(plain: Mapping[str, Any], where: str) -> tuple[bool | None, Label | None]:
    """KTO writes `label` as a boolean, guard as `safe` or `unsafe`."""
    label, verdict = plain.get("label"), plain.get("verdict")
    if isinstance(label, str):
        label, verdict = None, label if verdict is None else verdict
    if label in (0, 1):
        label = bool(label)
    if label is not None and not isinstance(label, bool):
        raise InvalidInput(f"{where}.label must be true or false, or `safe` or `unsafe` (got {type(label).__name__})")
    if verdict not in (None, "safe", "unsafe"):
        raise InvalidInput(f"{where}.verdict must be `safe` or `unsafe`")
    return label, verdict


def _attributes(value: object, where: str) -> Mapping[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where}.attributes must be an object of numbers, not {type(value).__name__}")
    return {str(name): _number(each, f"{where}.attributes") for name, each in value.items() if each is not None}


def _opinions(plain: Mapping[str, Any], where: str) -> tuple[Opinion, ...]:
    given = plain.get("opinions") or ()
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(o, Mapping) for o in given):
        raise InvalidInput(f"{where}.opinions must be a list of objects")
    found = []
    for each in given:
        kind, prefers, label = each.get("kind"), each.get("prefers"), each.get("label")
        if kind not in ("human", "judge") or prefers not in (None, "chosen", "rejected", "tie"):
            raise InvalidInput(
                f"{where}.opinions: `kind` must be human or judge, `prefers` chosen, rejected or tie where it is given"
            )
        found.append(Opinion(str(each.get("by") or kind), kind, prefers, label, str(each.get("template") or "")))
    if isinstance(judge := plain.get("judge"), Mapping):
        side: Side | None = "chosen" if plain.get("chosen") is not None else None
        found.append(Opinion(str(judge.get("model", "judge")), "judge", side, None, str(judge.get("template", ""))))
    return tuple(found)


def _check(row: RewardRow) -> None:
    """InvalidInput where columns contradict one another, or a number is not finite."""
    if not row.prompt:
        raise InvalidInput("`prompt` has no messages")
    named = {name: text for name in ANSWERS if (text := getattr(row, name)) is not None}
    named |= {f"responses[{index}]": text for index, text in enumerate(row.responses)}
    if empty := [name for name, text in named.items() if not text.strip()]:
        raise InvalidInput(f"`{empty[0]}` is empty; give at least one visible character")
    if (row.chosen is None) != (row.rejected is None):
        raise InvalidInput("a pair needs both `chosen` and `rejected`")
    if row.chosen is not None and row.chosen == row.rejected:
        raise InvalidInput("`chosen` and `rejected` are equal, so that neither can be preferred")
    if row.rank and len(row.rank) != len(row.responses):
        raise InvalidInput(f"`rank` has {len(row.rank)} entries for {len(row.responses)} `responses`")
    numbers = {"rank": row.rank, "attributes": row.attributes.values(), "weight": (row.weight,)}
    numbers["margin"] = () if row.margin is None else (row.margin,)
    for name, values in numbers.items():
        if not all(math.isfinite(value) for value in values):
            raise InvalidInput(f"`{name}` has a number that is not finite; leave it out where it is unknown")
    for name, value in (("weight", row.weight), ("margin", row.margin)):
        if value is not None and value < 0:
            raise InvalidInput(f"`{name}` must be >= 0 (got {value:g})")
