"""Policies: ordered hazard categories, written for people and for guards."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from guard import assets, document, schema
from guard.errors import PolicyError, nearest
from guard.verdict import natural

Detail = Literal["names", "short", "full"]  # how much of each category the prompt contains
CODE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[/_-][A-Za-z0-9]+)*")
MOST_CATEGORIES = 1024  # each is embedded or prompted for every conversation, and a verdict names them all
_ID = re.compile(r"[a-z0-9][a-z0-9._-]*")
# Characters that could break or disguise a line of a policy in a prompt or a terminal.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _code(text: str) -> str:
    if not CODE.fullmatch(text):
        raise ValueError("must be letters and digits, joined by / _ or -, like S1 or hate/threatening")
    return text


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("must be lower-case letters, digits and . _ -, like my-policy")
    return text


def _line(text: str) -> str:
    """`text` without the space around it, so that the ways to fold a line in YAML make no difference."""
    if not text.strip():
        raise ValueError("must not be empty")
    if _UNPRINTABLE.search(text.strip()):
        raise ValueError("must be one line without tabs or control characters")
    return text.strip()


def _prose(text: str) -> str:
    if _UNPRINTABLE.search(text.replace("\n", " ")):
        raise ValueError("must not hold tabs or control characters")
    return text.strip()


Code = Annotated[str, Field(max_length=48, json_schema_extra={"pattern": f"^{CODE.pattern}$"}), AfterValidator(_code)]
Id = Annotated[str, Field(max_length=64, json_schema_extra={"pattern": f"^{_ID.pattern}$"}), AfterValidator(_id)]
Word = Annotated[str, Field(max_length=80), AfterValidator(_line)]
Line = Annotated[str, Field(max_length=600), AfterValidator(_line)]
Prose = Annotated[str, Field(max_length=4000), AfterValidator(_prose)]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]
_CONFIG = ConfigDict(**schema.STRICT, use_attribute_docstrings=True)  # the docstrings are an editor's hints


@dataclass(frozen=True, slots=True)
class Category:
    """One hazard; the guard reads its name, definition and includes."""

    __pydantic_config__ = _CONFIG

    code: Code
    """What verdicts name, like S1 or hate/threatening; unique in the policy."""
    name: Word
    """Two or three words."""
    definition: Line
    """One sentence that names the typical topics."""
    includes: tuple[Line, ...] = ()
    """What counts, one short line each."""
    excludes: tuple[Line, ...] = ()
    """What looks alike and does not count, one short line each."""
    threshold: Probability | None = None
    """Flags the category from this probability on; left out, the bundle's calibration decides."""

    def __post_init__(self) -> None:
        _code(self.code)
        for field in ("name", "definition"):
            object.__setattr__(self, field, _line(getattr(self, field)))
        for field in ("includes", "excludes"):
            object.__setattr__(self, field, tuple(_line(line) for line in getattr(self, field)))


@dataclass(frozen=True)
class Policy:
    """Ordered categories under an id and version."""

    __pydantic_config__ = _CONFIG

    id: Id
    """Lower-case name that stays the same from version to version."""
    version: Word
    """Text, so in quotes: "1.0"."""
    name: Word
    """What people call the policy."""
    categories: Annotated[tuple[Category, ...], Field(json_schema_extra={"minItems": 1, "maxItems": MOST_CATEGORIES})]
    """The hazards; what is in none of them is safe."""
    description: Prose = ""
    """For people; the guard does not read it."""
    threshold: Probability | None = None
    """A conversation is unsafe from this probability on, in every mode; left out, the bundle's calibration decides."""

    def __post_init__(self) -> None:
        _id(self.id)
        for field in ("version", "name"):
            object.__setattr__(self, field, _line(getattr(self, field)))
        object.__setattr__(self, "description", _prose(self.description))
        if not self.categories:
            raise schema.Misplaced("must hold at least one category; `guard policy new` shows one", "categories")
        if len(self.categories) > MOST_CATEGORIES:
            raise schema.Misplaced(
                f"must hold at most {MOST_CATEGORIES} categories (got {len(self.categories)})", "categories"
            )
        seen: dict[str, str] = {}
        for index, code in enumerate(self.codes):
            if first := seen.get(code.lower()):
                raise schema.Misplaced(f"{code} is taken by an earlier category ({first})", "categories", index, "code")
            seen[code.lower()] = code

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(category.code for category in self.categories)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the canonical form: sorted-key JSON without spaces, in UTF-8."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()

    def category(self, code: str) -> Category:
        for category in self.categories:
            if category.code == code:
                return category
        raise unknown_codes(self, [code])

    def without(self, codes: Collection[str]) -> Policy:
        """The policy less `codes`. PolicyError on an unknown code or when nothing would remain."""
        known, excluded = set(self.codes), set(codes)
        unknown = [code for code in codes if code not in known]
        if unknown:
            raise unknown_codes(self, unknown)
        if not codes:
            return self
        kept = tuple(category for category in self.categories if category.code not in excluded)
        if not kept:
            raise PolicyError(f"policy {self.id!r}: excluding {', '.join(codes)} leaves no category; exclude fewer")
        return dataclasses.replace(self, categories=kept)


def unknown_codes(policy: Policy, codes: Iterable[str]) -> PolicyError:
    """The error that says which codes `policy` has instead of the unknown `codes`."""
    unknown = [code[:48] for code in codes]
    near = nearest(unknown[0], policy.codes)
    hint = f"did you mean {near}? It" if near else "it"
    return PolicyError(
        f"policy {policy.id!r} has no category {', '.join(unknown)}; {hint} has: {', '.join(policy.codes)}"
    )


def ordered(policy: Policy, codes: Iterable[str]) -> tuple[str, ...]:
    """`codes` in the order in which verdicts name them: numeric (S2 before S10). PolicyError on an unknown one."""
    codes = set(codes)
    if unknown := sorted(codes - set(policy.codes)):
        raise unknown_codes(policy, unknown)
    return tuple(sorted(codes, key=natural))


def as_dict(policy: Policy) -> dict[str, Any]:
    """The policy as plain data; defaults are left out, so that adding an optional key keeps old digests."""
    plain = dataclasses.asdict(policy)
    plain["categories"] = [{k: v for k, v in c.items() if v not in (None, (), "")} for c in plain["categories"]]
    return {key: value for key, value in plain.items() if value not in (None, (), "")}


def canonical(policy: Policy) -> str:
    return json.dumps(as_dict(policy), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def from_text(text: str, where: str) -> Policy:
    """The policy of a YAML (or JSON) text; PolicyError lists every mistake with its line."""
    data, lines = document.parse(text, where, PolicyError, longest_list=MOST_CATEGORIES)
    return schema.convert(data, Policy, where, lines, PolicyError)


def load(name_or_path: str | Path) -> Policy:
    """A shipped policy by name (`mlcommons`), or a policy file: a Path, or text with a `/` or its suffix in it.

    PolicyError lists every mistake.
    """
    if is_name(name_or_path):
        text, names = name_or_path, shipped()
        if text not in names:
            near = nearest(text, names)
            hint = f"; did you mean {near!r}?" if near else "."
            raise PolicyError(
                f"no shipped policy {text[:80]!r}{hint} Shipped: {', '.join(names)}. Give a file with its .yaml suffix"
            )
        name_or_path = assets.asset(f"taxonomy/policies/{text}.yaml")
    return from_text(document.read_text(Path(name_or_path), PolicyError), str(name_or_path))


def is_name(name_or_path: str | Path) -> TypeGuard[str]:
    """Whether this is the name of a policy, and not of a file: text without a `/` and without a file's suffix."""
    text = str(name_or_path)
    return isinstance(name_or_path, str) and not text.endswith((".yaml", ".yml", ".json")) and "/" not in text


def shipped() -> list[str]:
    """Names of the shipped policies, sorted."""
    return assets.names("taxonomy/policies", ".yaml")


def dump(policy: Policy) -> str:
    """The policy as YAML that `load` reads back to the same digest."""
    plain = as_dict(policy)
    plain["categories"] = plain.pop("categories")  # last, for people: all else fits above it
    return document.dump(json.loads(json.dumps(plain)))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a policy document, for completion and checks in an editor."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(Policy).json_schema()}
