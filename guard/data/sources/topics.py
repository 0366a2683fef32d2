"""Topics: which rules are about other things, so that a text that breaks the one keeps the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from guard import assets, schema
from guard.data.row import Rule
from guard.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Topic:
    """The names of rules that are about one thing, and the topics `near` it: a text may well break rules of both."""

    __pydantic_config__ = schema.STRICT

    names: tuple[str, ...]
    near: tuple[str, ...] = ()


@dataclass(frozen=True)
class Topics:
    """The topics of a source's rules. anything: names or definitions of rules that a text on any topic may break."""

    __pydantic_config__ = schema.STRICT

    name: str
    topics: dict[str, Topic]
    anything: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [name for topic in self.topics.values() for name in topic.names] + list(self.anything)
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{repeated[0]!r} is listed twice; a rule has one topic")
        for name, topic in self.topics.items():
            if unknown := [near for near in topic.near if near not in self.topics]:
                raise schema.Misplaced(f"no topic {unknown[0]!r}", "topics", name, "near")

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {name: topic for topic, listed in self.topics.items() for name in listed.names}

    def topic(self, rule: Rule) -> str | None:
        """The topic of a rule, None if it may be about anything. DataError if the name of the rule is not listed."""
        if rule.name in self.anything or rule.definition in self.anything:
            return None
        if rule.name not in self._by_name:
            raise DataError(
                f"topics {self.name}: a rule of {rule.domain} has a name ({len(rule.name)} characters) that no topic "
                "lists; add it to a topic or under `anything`"
            )
        return self._by_name[rule.name]

    def unrelated(self, rule: Rule, other: Rule) -> bool:
        """Whether a text that breaks `rule` may be taken to keep `other`."""
        one, two = self.topic(rule), self.topic(other)
        if one is None or two is None or one == two:
            return False
        return two not in self.topics[one].near and one not in self.topics[two].near


def load(name: str, taxonomy: Path | None = None) -> Topics:
    """The file `name` from the folder `topics` of `taxonomy` (default: the shipped one)."""
    path = (taxonomy or assets.asset("taxonomy")) / "topics" / f"{name}.yaml"
    return schema.load(path, Topics, ConfigError)
