"""Examples of a built data set, or of a user's own files, for training and evaluation."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from guard.conversation import Conversation, Example, Message, Split
from guard.data.build.rule_files import RULES, code
from guard.data.build.select import DEVELOPMENT, SPLITS
from guard.data.ingest.user_rows import read_labelled
from guard.data.sources import folders
from guard.data.sources.user_files import Mapping, load_mapping
from guard.errors import DataError, need
from guard.policy import Category, Policy


def load_examples(
    data: Path, split: str, policy: Policy | None = None, columns: Mapping | str | None = None
) -> list[Example]:
    """The examples of one split in stored order: of a folder made by `guard data build`, or of a user's own data.

    A user's data need the `policy` whose codes they name, and have the splits train and dev (see user_rows.py);
    `columns` is their mapping, or the file that holds it. `split` is train, dev, test, or development (whose examples
    count as dev). DataError if there is no such file.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    if not data.exists():
        raise DataError(f"{data}: no such file or folder; give a file of labelled rows, or a `guard data build` folder")
    path = data / f"{split}.parquet"
    if not path.is_file() and (data.is_file() or folders.is_saved(data)):
        if policy is None:
            raise DataError(f"{data}: is not a folder made by `guard data build`; rows of your own need a policy")
        mapping = load_mapping(Path(columns)) if isinstance(columns, str) else columns
        return [example for example in read_labelled(data, policy, mapping) if example.split == split]
    if not path.is_file():
        raise DataError(
            f"no data at {path}; make it with: guard data build CONFIG --root DIR --out {data}; or give a file of "
            "labelled rows"
        )
    rows = need("pyarrow.parquet", "data").read_table(path).to_pylist()
    name = cast(Split, "dev" if split == DEVELOPMENT else split)
    return [_example(row, name) for row in rows]


def weighed(examples: Iterable[Example], by_source: collections.abc.Mapping[str, float]) -> list[Example]:
    """The examples with their weights multiplied by those of their sources (default 1); weight 0 drops an example."""
    return [
        dataclasses.replace(example, weight=weight)
        for example in examples
        if (weight := example.weight * by_source.get(example.source, 1.0))
    ]


def _example(row: dict[str, Any], split: Split) -> Example:
    return Example(
        id=row["id"],
        conversation=Conversation(tuple(Message(entry["role"], entry["content"]) for entry in row["messages"])),
        label=row["label"],
        categories=frozenset(row["categories"]) if row["categories_known"] else None,
        source=row["source"],
        licence=row["licence"],
        language=row["language"],
        kind=row["kind"],
        split=split,
        weight=row["weight"],
        undecided=frozenset(row.get("undecided") or ()),
    )


def load_rules(data: Path, split: str) -> list[tuple[Example, Policy]]:
    """The rows of rules of one split of a folder made by `guard data build`: each with the policy that its label is of.

    The policy has the codes R1, R2, …; an unsafe example names the one that it breaks, and keeps the others. Empty
    if the folder has no such rows.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    path = data / f"{RULES}-{split}.parquet"
    if not path.is_file():
        return []
    name = cast(Split, "dev" if split == DEVELOPMENT else split)
    rows = need("pyarrow.parquet", "data").read_table(path).to_pylist()
    return [(_example({**row, "categories_known": True}, name), _policy(row)) for row in rows]


def _policy(row: dict[str, Any]) -> Policy:
    return _policy_of(row["domain"], tuple((rule["name"], rule["definition"]) for rule in row["policy"]))


@functools.cache
def _policy_of(domain: str, rules: tuple[tuple[str, str], ...]) -> Policy:
    categories = tuple(_category(place, *rule) for place, rule in enumerate(rules))
    return Policy(id="rules", version="1", name=domain, categories=categories)


@functools.cache
def _category(place: int, name: str, definition: str) -> Category:
    return Category(code(place), name, definition)


def of_languages(examples: Sequence[Example], languages: Sequence[str], where: str) -> list[Example]:
    """The examples of these languages, all where none are given. DataError if none is left."""
    if not languages:
        return list(examples)
    kept = [example for example in examples if example.language in languages]
    if not kept:
        there = ", ".join(sorted({example.language for example in examples})) or "none"
        raise DataError(f"{where}: no row is of the languages {', '.join(languages)}; there are: {there}")
    return kept
