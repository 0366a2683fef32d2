"""Server-sent events: where the standard ends lines and events, in any cut, and nowhere else."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guard.chat import events as room
from guard.chat.events import Event, Events


def decoded(parts: list[bytes]) -> list[Event]:
    decoder = Events()
    return [event for part in parts for event in decoder.push(part)] + decoder.end()


def data(sent: bytes) -> list[str]:
    return [event.data for event in decoded([sent]) if event.data is not None]


# What str.splitlines() splits at, and the standard does not.
OTHERS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("other", OTHERS)
def test_other_separators_are_characters_of_the_data(other: str) -> None:
    value = {"text": f"one{other}data: two{other}{other}three"}
    sent = f"data: {json.dumps(value, ensure_ascii=False)}\n\ndata: [DONE]\n\n".encode()
    first, done = data(sent)
    assert (json.loads(first, strict=False), done) == (value, "[DONE]")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"data: a\r\n\ndata: b\n\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data:a\ndata: b\ndata:  c\n\n", ["a\nb\n c"]),
        (b": ping\n\nevent: x\nid: 1\ndata: a\nretry: 3\n\n", ["a"]),
        (b"data\n\n", [""]),
        (b"datas: a\n\n", []),
        (b"data: a\n", []),  # the standard drops what no blank line ends
        (b"data: \xff\n\n", ["\N{REPLACEMENT CHARACTER}"]),
        (b"\n\n\n", []),
    ],
)
def test_the_standard(sent: bytes, expected: list[str]) -> None:
    assert data(sent) == expected


@given(
    st.lists(st.sampled_from([b"data: x", b"\r", b"\n", b"\r\n", b":", b"\xe2\x80\xa8", b"a"]), max_size=12), st.data()
)
@example([b"data: x", b"\r\n", b"\r\n"], None)
def test_any_cut_gives_the_same_events_and_every_byte(parts: list[bytes], draw: st.DataObject | None) -> None:
    sent = b"".join(parts)
    whole = decoded([sent])
    cuts = [sent[at : at + 1] for at in range(len(sent))]
    if draw is not None:
        size = draw.draw(st.integers(1, 5))
        cuts = [sent[at : at + size] for at in range(0, len(sent), size)]
    pieces = decoded(cuts)
    assert b"".join(event.raw for event in whole) == b"".join(event.raw for event in pieces) == sent
    kept = [[event.data for event in each if event.data is not None] for each in (whole, pieces)]
    assert kept[0] == kept[1]


def test_an_event_that_is_too_long_is_no_data_and_is_not_kept() -> None:
    decoder = Events()
    part = b"data: " + b"x" * (1 << 20)
    found: list[Event] = []
    for _ in range(9):
        found += decoder.push(part)
    found += decoder.push(b"\n\ndata: a\n\n")
    assert all(len(event.raw) <= room.LONGEST + len(part) for event in found)
    assert sum(len(event.raw) for event in found) == 9 * len(part) + len(b"\n\ndata: a\n\n")
    assert [event.data for event in found if event.problem is None] == ["a"]
    assert {str(event.problem) for event in found if event.problem} == {
        f"the upstream sent an event of more than {room.LONGEST} bytes"
    }
