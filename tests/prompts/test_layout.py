"""Windows cover everything, are never too long, and share what they must."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.prompts.layout import layout, spans


@st.composite
def sizes(draw):
    size = draw(st.integers(1, 60))
    return draw(st.integers(0, 500)), size, draw(st.integers(0, size - 1))


@given(sizes())
def test_spans_keep_what_they_promise(drawn):
    total, size, overlap = drawn
    found = spans(total, size, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == total
    assert {end - start for start, end in found} == {min(size, total)}, "the last is as long as the others"
    for (start, end), (following, _) in itertools.pairwise(found):
        assert start < following <= end - overlap, "they go on, without a gap and sharing enough"


def test_examples():
    assert spans(0, 4, 2) == [(0, 0)]
    assert spans(4, 4, 2) == [(0, 4)]
    assert spans(5, 4, 2) == [(0, 4), (1, 5)]
    assert spans(9, 4, 2) == [(0, 4), (2, 6), (4, 8), (5, 9)]


@given(sizes())
def test_as_few_as_possible(drawn):
    total, size, overlap = drawn
    steps = -(-max(0, total - size) // (size - overlap))
    assert len(spans(total, size, overlap)) == 1 + steps


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-1, 0), (4, 4), (4, 5), (4, -1)])
def test_sizes_that_cannot_be_are_refused(size, overlap):
    with pytest.raises(ValueError, match=f"got: size {size}, overlap {overlap}"):
        spans(10, size, overlap)


@given(
    st.integers(0, 300), st.integers(0, 300), st.integers(12, 80), st.integers(0, 60), st.integers(0, 4), st.booleans()
)
def test_a_layout_holds_every_token_in_windows_of_the_room(judged, context, room, overlap, marks, wide):
    pairs = layout(judged, context, room, overlap, marks, overlap if wide else None)
    for (start, end), (first, last) in pairs:
        cut = marks if (first, last) != (0, context) else 0
        assert end - start + last - first + cut <= room
    assert {at for (start, end), _ in pairs for at in range(start, end)} == set(range(judged))
    assert {at for _, (first, last) in pairs for at in range(first, last)} == set(range(context))


def test_what_fits_is_one_window():
    assert layout(10, 20, 30, 5) == [((0, 10), (0, 20))]
    assert layout(10, 20, 29, 5) != [((0, 10), (0, 20))]


def test_a_judged_message_without_tokens_keeps_a_place_beside_a_long_context():
    assert layout(0, 30, 30, 5) == [((0, 0), (1, 30)), ((0, 0), (0, 6))]
