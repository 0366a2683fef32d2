"""Bars of probabilities, with the mark of their threshold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.calibration import NEVER
from guard.cli.verdict_lines import BAR, Line, bar, verdict_lines
from guard.conversation import Target
from guard.engines.fake import FakeEngine
from guard.moderator import Moderator
from guard.policy import load
from guard.verdict import Coverage, Language, Monitor, Outcome, Verdict

PROBABILITY = st.floats(0, 1)


@given(PROBABILITY, st.one_of(PROBABILITY, st.just(NEVER)))
def test_a_bar_passes_the_mark_iff_p_reaches_the_threshold(p: float, threshold: float) -> None:
    before, behind = bar(p, threshold)
    mark, cells = behind[0], before + behind[1:]
    assert (mark, len(cells)) == ("│", BAR)
    assert cells == "█" * cells.count("█") + "░" * cells.count("░"), "it is filled from the left"
    assert ("█" in behind) is (p >= threshold)
    assert abs(cells.count("█") - p * BAR) <= 1


def test_what_was_not_judged_and_what_is_only_watched_is_told() -> None:
    rules = load("minimal")
    verdict = Verdict(
        outcome=Outcome.INCOMPLETE,
        target=Target.RESPONSE,
        p_unsafe=0.25,
        threshold=NEVER,
        categories={"M1": 0.125, "M2": 0.25},
        flagged=(),
        p_refusal=None,
        coverage=Coverage(5, 1500, 1, 0, 9),
        policy=rules.digest,
        model="m",
        unjudged=("messages[0].content[1]: image_url",),
        language=Language("fi", 0.9, supported=False),
        monitor=Monitor(("M2",), Outcome.UNSAFE, ("M2",), 0.125),
    )
    told = ["".join(text for text, _ in line) for line in _lines(verdict)]
    assert told[:7] == [
        "INCOMPLETE",
        "response  p(unsafe) 0.250  never unsafe (mode balanced, policy minimal 1)",
        "only 5 of 1,500 tokens could be judged",
        "not judged: messages[0].content[1]: image_url",
        "language fi: the guard was not trained for it",
        "watched and not enforced: M2; if they were: UNSAFE",
        "",
    ]
    assert [line.split()[:2] for line in told[7:]] == [["any", "category"], ["M2", "Credentials"], ["M1", "Threats"]]


def _lines(verdict: Verdict) -> list[Line]:
    rules = load("minimal")
    return list(verdict_lines(verdict, rules, Moderator(FakeEngine(), rules).info, (), bars=False))
