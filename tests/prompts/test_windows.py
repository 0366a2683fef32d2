"""Windows cover everything, are never too long, and share what they must."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.prompts.windows import windows


@st.composite
def sizes(draw):
    size = draw(st.integers(1, 60))
    return draw(st.integers(0, 500)), size, draw(st.integers(0, size - 1))


@given(sizes())
def test_windows_keep_what_they_promise(drawn):
    total, size, overlap = drawn
    found = windows(total, size, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == total
    assert {end - start for start, end in found} == {min(size, total)}, "the last is as long as the others"
    for (start, end), (following, _) in itertools.pairwise(found):
        assert start < following <= end - overlap, "they go on, without a gap and sharing enough"


def test_examples():
    assert windows(0, 4, 2) == [(0, 0)]
    assert windows(4, 4, 2) == [(0, 4)]
    assert windows(5, 4, 2) == [(0, 4), (1, 5)]
    assert windows(9, 4, 2) == [(0, 4), (2, 6), (4, 8), (5, 9)]


@given(sizes())
def test_as_few_as_possible(drawn):
    total, size, overlap = drawn
    steps = -(-max(0, total - size) // (size - overlap))
    assert len(windows(total, size, overlap)) == 1 + steps


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-1, 0), (4, 4), (4, 5), (4, -1)])
def test_sizes_that_cannot_be_are_refused(size, overlap):
    with pytest.raises(ValueError, match=f"given: size {size}, overlap {overlap}"):
        windows(10, size, overlap)
