"""Whatever deltas cut, their text is that of the whole."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from guard.conversation import Message
from guard.stream.deltas import Deltas


def joined(pieces: list[str] | list[bytes]) -> str:
    deltas = Deltas()
    return "".join([*map(deltas.push, pieces), deltas.end()])


@given(st.binary(), st.lists(st.integers(0, 40)))
def test_bytes_may_be_cut_anywhere(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert joined(pieces) == data.decode(errors="replace")


@given(st.lists(st.text(st.characters(), max_size=3) | st.sampled_from(["\ud83d", "\ude42", "🙂", "", "\ud83d\ude42"])))
def test_halves_of_pairs_are_joined_and_lone_ones_replaced(pieces: list[str]) -> None:
    expected = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert joined(pieces) == expected
    assert Message("user", joined(pieces)).content == expected


def test_text_after_cut_bytes() -> None:
    deltas = Deltas()
    assert [deltas.push(each) for each in (b"a\xf0\x9f", "b", "\ud83d", b"c")] == ["a", "�b", "", "�c"]
