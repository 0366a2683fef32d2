"""A user's row is the same conversation, and the same token ids, on every path: check, filter, training, the build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guard.conversation import Conversation, conversation_from_row
from guard.data.dataset.convert import convert
from guard.data.dataset.examples import load_examples
from guard.data.ingest import source_rows
from guard.data.ingest.user_description import describe
from guard.data.ingest.user_rows import conversation_of, read_labelled
from guard.data.sources.user_files import of_file
from guard.engines.fake import FakeEngine
from guard.errors import DataError
from guard.jobs.rows import open_rows
from guard.policy import load

RULES = load("minimal")
CALL = {"id": "c", "type": "function", "function": {"name": "send", "arguments": '{"to": "all"}'}}
USER = {"role": "user", "content": "Hello"}
ROWS: dict[str, dict[str, Any]] = {
    "a prompt": {"prompt": "Hello"},
    "a text": {"text": "Hello"},
    "white space": {"prompt": "  Hello\n", "response": "\tGood day. "},
    "an empty prompt": {"prompt": "", "response": "Good day."},
    "a null prompt": {"prompt": None, "response": "Good day."},
    "no prompt": {"response": "Good day.", "prompt_": "x"},
    "a null response": {"prompt": "Hello", "response": None},
    "null messages": {"prompt": "Hello", "messages": None},
    "an answer to nothing": {"messages": [{"role": "assistant", "content": "Good day."}]},
    "an answer to an empty turn": {
        "messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "x"}]
    },
    "an answer to a blank turn": {
        "messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "x"}]
    },
    "messages and a response": {"messages": [USER], "response": "Good day."},
    "messages as JSON": {"messages": json.dumps([USER])},
    "other roles": {"messages": [{"role": "developer", "content": "Be kind."}, {"role": "function", "content": "x"}]},
    "parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    },
    "a tool call": {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
    "a tool call before": {
        "messages": [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "done"}]
    },
    "a surrogate": {"prompt": "a\ud800b"},
}


def written(path: Path, row: dict[str, Any]) -> Path:
    """The row with a label."""
    path.write_text(json.dumps({"label": "safe", **row}) + "\n")
    return path


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_has_the_same_ids_on_every_path(tmp_path: Path, row: dict[str, Any]) -> None:
    path = written(tmp_path / "own.jsonl", row)
    (shard,) = open_rows(path).shards(9)
    judged = conversation_from_row(shard.row(0))  # what check, filter, relabelling and judging read

    (trained,) = [example.conversation for example in read_labelled(path, RULES)]
    described = describe(of_file(path), Path(), RULES)
    (taken,) = source_rows.rows(described.source, described.root, None, RULES)
    (tmp_path / "built").mkdir()
    convert(path, tmp_path / "built" / "train.parquet", RULES)
    (built,) = [example.conversation for example in load_examples(tmp_path / "built", "train")]

    assert trained == conversation_of(taken) == built == judged
    windows = [FakeEngine().tokenize(each, RULES).windows for each in (judged, trained, built)]
    assert windows[0] == windows[1] == windows[2]


def test_all_spellings_of_no_prompt_are_one_conversation() -> None:
    found = {conversation_from_row(ROWS[name]) for name in ("an empty prompt", "a null prompt", "no prompt")}
    assert found == {Conversation.of("", "Good day.")}


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_an_empty_cell_is_no_value(tmp_path: Path, suffix: str) -> None:
    sign = "," if suffix == "csv" else "\t"
    path = tmp_path / f"own.{suffix}"
    path.write_text("response,label\nGood day.,safe\n".replace(",", sign))
    assert [example.conversation for example in read_labelled(path, RULES)] == [Conversation.of("", "Good day.")]
    path.write_text("response,label\nGood day.,safe\n".replace(",", sign))
    assert [example.conversation for example in read_labelled(path, RULES)] == [Conversation.of("", "Good day.")]
    path.write_text("prompt,response,label\nHello,,safe\n,Good day.,safe\n".replace(",", sign))
    (shard,) = open_rows(path).shards(9)
    read = [conversation_from_row(shard.row(index)) for index in range(2)]
    assert read == [Conversation.of("Hello"), Conversation.of("", "Good day.")]
    assert [example.conversation for example in read_labelled(path, RULES)] == read


def test_an_empty_response_is_not_a_prompt(tmp_path: Path) -> None:
    path = written(tmp_path / "own.jsonl", {"prompt": "Hello", "response": ""})
    with pytest.raises(DataError, match=r"row 1: the judged \(last\) message is empty"):
        read_labelled(path, RULES)
