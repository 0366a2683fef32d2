"""The one rule by which windows count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.prompts.window import Score, combined, worst_window

NUMBERS = st.floats(-50, 50)
SCORES = st.lists(st.builds(Score, NUMBERS, st.tuples(NUMBERS, NUMBERS), st.none() | NUMBERS), min_size=1, max_size=6)


@given(SCORES)
def test_the_worst_window_decides_and_categories_come_from_all(scores: list[Score]) -> None:
    whole = combined(scores)
    assert whole.unsafe == scores[worst_window(scores)].unsafe == max(score.unsafe for score in scores)
    assert whole.categories == tuple(max(score.categories[place] for score in scores) for place in range(2))
    assert whole.refusal == scores[0].refusal


@given(SCORES, SCORES)
def test_a_window_more_only_raises(scores: list[Score], more: list[Score]) -> None:
    one, other = combined(scores), combined([*scores, *more])
    assert other.unsafe >= one.unsafe
    assert all(a >= b for a, b in zip(other.categories, one.categories, strict=True))
    assert combined([one, combined(more)]) == other


def test_of_equal_windows_the_first_is_named() -> None:
    assert worst_window([Score(-1.0), Score(2.0), Score(2.0)]) == 1
    assert combined([Score(3.0)]) == Score(3.0)
