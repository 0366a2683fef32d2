"""A user's own labelled rows: what `guard train --data` learns from and `guard eval` measures on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from guard.conversation import Conversation, Example, Label, Message
from guard.data.ingest import source_rows
from guard.data.ingest.source_rows import Broken
from guard.data.ingest.user_description import BrokenRows, describe
from guard.data.row import Row
from guard.data.sources.user_files import Mapping, of_file
from guard.errors import DataError, InvalidInput
from guard.policy import Policy

DEV_SHARE = 0.1  # of the rows, by a hash of their texts: adding rows never moves the others


def read_labelled(path: Path, policy: Policy, columns: Mapping | None = None) -> list[Example]:
    """The labelled rows of a file or folder of any format of guard.data.sources.formats, in order.

    Without `columns` the rows are `{"prompt", "response"? | "messages", "label": "safe|unsafe", "categories"?: [codes],
    "id"?}`. Each falls into train or dev by its texts; what is unlabelled or a pair is left out. DataError shows the
    first ten broken rows.
    """
    broken = BrokenRows(str(path))
    examples: list[Example] = []
    for found in _examples(path, policy, columns):
        if isinstance(found, Broken):
            broken.add(found)
        else:
            examples.append(found)
    if columns is None or columns.on_broken == "error":
        broken.complain()
    if not examples:
        raise DataError(f"{path}: has no rows with a label")
    return examples


def _examples(path: Path, policy: Policy, columns: Mapping | None) -> Iterator[Example | Broken]:
    described = describe(of_file(path, columns), Path(), policy)
    licence = described.source.licence
    for row in source_rows.each(described.source, described.root, described.crosswalk, policy):
        if isinstance(row, Broken):
            yield row
        elif row.kind != "pair" and row.label != "unlabelled":
            try:
                yield _example(row, path.name, licence)
            except InvalidInput as mistake:
                yield Broken(row.place, str(mistake))


def conversation_of(row: Row) -> Conversation:
    """The conversation of a row that is not a pair."""
    return Conversation(tuple(Message(role, content) for role, content in row.messages))


def _example(row: Row, source: str, licence: str) -> Example:
    conversation = conversation_of(row)
    digest = hashlib.sha256("\0".join(message.content for message in conversation.messages).encode()).digest()
    return Example(
        id=row.given_id or digest.hex()[:16],
        conversation=conversation,
        label=cast(Label, row.label),
        categories=frozenset() if row.label == "safe" else frozenset(row.categories) if row.categories else None,
        source=source,
        licence=licence,
        language=row.language,
        kind="response" if conversation.judged.role == "assistant" else "prompt",
        split="dev" if int.from_bytes(digest[:4]) < DEV_SHARE * 2**32 else "train",
        undecided=frozenset(row.undecided),
    )
