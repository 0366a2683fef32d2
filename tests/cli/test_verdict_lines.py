"""Bars of probabilities, with the mark of their threshold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.calibration import NEVER
from guard.cli.verdict_lines import BAR, bar

PROBABILITY = st.floats(0, 1)


@given(PROBABILITY, st.one_of(PROBABILITY, st.just(NEVER)))
def test_a_bar_passes_the_mark_iff_p_reaches_the_threshold(p: float, threshold: float) -> None:
    before, behind = bar(p, threshold)
    mark, cells = behind[0], before + behind[1:]
    assert (mark, len(cells)) == ("│", BAR)
    assert cells == "█" * cells.count("█") + "░" * cells.count("░"), "it is filled from the left"
    assert ("█" in behind) is (p >= threshold)
    assert abs(cells.count("█") - p * BAR) <= 1
