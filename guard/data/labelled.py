"""A user's own labelled rows, in JSONL: what `guard train --data` learns from and `guard eval` measures on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from guard.conversation import Example, conversation_from_row
from guard.errors import DataError, InvalidInput
from guard.policy import Policy

MISTAKES_SHOWN = 20
DEV_SHARE = 0.1  # of the rows, by a hash of their texts: adding rows never moves the others


def read_labelled(path: Path, policy: Policy) -> list[Example]:
    """Rows `{"prompt", "response"? | "messages", "label": "safe|unsafe", "categories"?: [codes], "id"?}`, in order.

    Each falls into train or dev by its texts. Raises DataError with the line of the first twenty mistakes.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}; give the path of a JSONL file") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: byte {problem.start} is not UTF-8; is the file damaged?") from None
    examples: list[Example] = []
    mistakes: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            examples.append(_example(line, path, policy))
        except InvalidInput as mistake:
            mistakes.append(f"{path}:{number}: {mistake}")
    if mistakes:
        more = [f"… and {len(mistakes) - MISTAKES_SHOWN} more broken rows"] if len(mistakes) > MISTAKES_SHOWN else []
        raise DataError("\n".join(mistakes[:MISTAKES_SHOWN] + more))
    if not examples:
        raise DataError(f"{path}: has no rows; give one JSON object a line")
    return examples


def _example(line: str, path: Path, policy: Policy) -> Example:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInput("not valid JSON") from None
    conversation = conversation_from_row(row)
    label, codes = row.get("label"), row.get("categories")
    if label not in ("safe", "unsafe"):
        raise InvalidInput('`label` must be "safe" or "unsafe"')
    if codes is not None and not (isinstance(codes, list) and all(isinstance(code, str) for code in codes)):
        raise InvalidInput("`categories` must be a list of codes; leave it out where they are unknown")
    if codes and label == "safe":
        raise InvalidInput("a safe row violates no category; leave `categories` out or change the label")
    if codes is not None and (unknown := len(set(codes) - set(policy.codes))):
        raise InvalidInput(
            f"`categories` names {unknown} codes that policy {policy.id!r} has not; it has: {', '.join(policy.codes)}"
        )
    digest = hashlib.sha256("\0".join(message.content for message in conversation.messages).encode()).digest()
    return Example(
        id=str(row.get("id", digest.hex()[:16])),
        conversation=conversation,
        label=label,
        categories=frozenset() if label == "safe" else frozenset(codes) if codes else None,
        source=path.name,
        licence="not stated",
        language="und",
        kind="response" if conversation.judged.role == "assistant" else "prompt",
        split="dev" if int.from_bytes(digest[:4]) < DEV_SHARE * 2**32 else "train",
    )
