"""The words of reward models' prompts (taxonomy/templates/reward-v1.yaml)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from guard import schema
from guard.assets import asset

LAYOUT = 1  # to be incremented when token ids change for a reason outside the template
Label = Literal["user", "assistant", "system", "tool", "answer", "first", "second", "critique"]


@dataclass(frozen=True, slots=True)
class Question:
    """words: what decides, the best first; of a question without words the whole text is the answer. json: whether the
    reason stands inside of a JSON string."""

    __pydantic_config__ = schema.STRICT

    task: str
    ask: str
    cue: str = ""
    marker: str = ""
    tail: str = ""
    words: tuple[str, ...] = ()
    json: bool = False

    def written(self, reason: str) -> str:
        """A reason as it stands in the model's reply."""
        return json.dumps(reason, ensure_ascii=False)[1:-1] if self.json else reason

    def read(self, text: str) -> str:
        """The reason of a reply; as it stands if it is no JSON string."""
        try:
            return str(json.loads(f'"{text}"', strict=False)) if self.json else text
        except ValueError:
            return text


@dataclass(frozen=True, slots=True)
class Template:
    __pydantic_config__ = schema.STRICT

    id: str
    labels: Mapping[Label, str]
    questions: Mapping[str, Question]
    hints: Mapping[str, str]

    @property
    def digest(self) -> str:
        """sha256 (hex) of the words and of the layout."""
        parts = {"layout": LAYOUT, "template": dataclasses.asdict(self)}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def template() -> Template:
    """The shipped template."""
    return schema.load(asset("taxonomy/templates/reward-v1.yaml"), Template)
