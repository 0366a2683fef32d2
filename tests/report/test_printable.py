"""Text of users on a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from guard.report.printable import printable


@given(st.text(), st.integers(0, 50))
def test_printable_text_holds_nothing_else(text, at_most):
    shown = printable(text, at_most)
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    if len(text) <= at_most and all(map(str.isprintable, text)):
        assert shown == text
