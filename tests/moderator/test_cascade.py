"""A cascade: clear cases cost one engine, the rest two, and batches may mix both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.batcher import Batcher
from guard.calibration import Calibration, TargetCalibration
from guard.conversation import Conversation, Target
from guard.engines.base import EngineInfo
from guard.engines.cascade import Band, CascadeEngine, Stage
from guard.engines.fake import FakeEngine
from guard.errors import EngineError, GuardError
from guard.moderator import Moderator
from guard.moderator.steps import Scored, advance, run_async
from guard.policy import Policy, load
from guard.prompts.window import Score, TokenizedConversation, Window
from guard.verdict import Outcome, sigmoid, to_json

RULES = load("minimal")
EVERYTHING = {target: Band() for target in Target}
NOTHING = {target: Band(0.0, 0.0) for target in Target}


class Says(FakeEngine):
    """Scores a text by the number that is its first word, times `factor`; counts the windows that it scores."""

    def __init__(self, factor: float = 1.0, refusal: float | None = None, fails: bool = False) -> None:
        self.factor, self.refusal, self.fails = factor, refusal, fails
        self.info: EngineInfo = dataclasses.replace(FakeEngine.info, languages=("en", "de"))
        self.scored: list[int] = []
        self.closed = False

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        if self.fails:
            raise EngineError("the device is gone")
        self.scored.append(len(windows))
        return [self._of(window) for window in windows]

    def _of(self, window: Window) -> Score:
        z = self.factor * float(bytes(window.ids).decode().split()[0])
        return Score(z, tuple(z for _ in window.policy.codes), self.refusal)

    def close(self) -> None:
        self.closed = True


class HalfRead(Says):
    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        return dataclasses.replace(super().tokenize(conversation, policy), tokens_seen=0)


def cascade(
    first: FakeEngine, second: FakeEngine, bands: Mapping[Target, Band], scale: TargetCalibration | None = None
) -> Moderator:
    calibration = Calibration() if scale is None else Calibration(scale, scale)
    stages = Stage(first, calibration, "small one"), Stage(second, Calibration(), "large one")
    return Moderator(CascadeEngine(*stages, bands, "d" * 64), RULES)


def test_clear_cases_ask_one_engine_and_the_rest_both() -> None:
    first, second = Says(), Says(factor=-1.0)
    band = {target: Band(-1.0, 1.0) for target in Target}
    verdicts = cascade(first, second, band).moderate([Conversation.of(text) for text in ("-3", "0.5", "3", "-1")])
    one, both = "small one", "small one+large one"
    assert [verdict.decided_by for verdict in verdicts] == [one, both, one, both]
    assert [verdict.p_unsafe for verdict in verdicts] == pytest.approx([sigmoid(-3), 0.5, sigmoid(3), 0.5])
    assert (first.scored, second.scored) == ([4], [2]), "one call of each engine"


@given(st.lists(st.floats(-9, 9).map(lambda z: f"{z:.2f}"), min_size=1, max_size=8), st.floats(-5, 5), st.floats(-5, 5))
def test_a_verdict_does_not_depend_on_its_neighbours(texts: list[str], one: float, other: float) -> None:
    band = {target: Band(min(one, other), max(one, other)) for target in Target}
    moderator = cascade(Says(), Says(factor=-0.5), band)
    together = moderator.moderate([Conversation.of(text) for text in texts])
    alone = [moderator.check(text) for text in texts]
    assert [(each.p_unsafe, each.decided_by) for each in together] == [(e.p_unsafe, e.decided_by) for e in alone]


def test_the_stages_meet_on_calibrated_log_odds() -> None:
    verdict = cascade(Says(), Says(), EVERYTHING, TargetCalibration(2.0, -1.0)).check("1.5")
    assert verdict.p_unsafe == pytest.approx(sigmoid((2 * 1.5 - 1 + 1.5) / 2))
    assert list(verdict.categories.values()) == pytest.approx([verdict.p_unsafe] * 2)


def test_each_target_has_a_band_of_its_own() -> None:
    bands = {Target.PROMPT: Band(0.0, 0.0), Target.RESPONSE: Band()}
    moderator = cascade(Says(), Says(), bands)
    assert moderator.check("1").decided_by == "small one"
    assert moderator.check("1", "1").decided_by == "small one+large one"


def test_what_the_first_could_not_tokenize_is_never_safe_by_the_second() -> None:
    moderator = cascade(HalfRead(), Says(), NOTHING)
    assert moderator.check("-3").outcome is Outcome.INCOMPLETE
    assert moderator.check("-3").decided_by == "small one+large one"
    assert cascade(HalfRead(), Says(factor=9), NOTHING).check("2").outcome is Outcome.UNSAFE


def test_a_refusal_is_told_by_whichever_can() -> None:
    assert cascade(Says(refusal=2.0), Says(), EVERYTHING).check("1", "1").p_refusal == pytest.approx(sigmoid(2))
    assert cascade(Says(refusal=2.0), Says(refusal=-1.0), EVERYTHING).check("1", "1").p_refusal == pytest.approx(
        sigmoid(-1)
    )


def test_an_engine_that_fails_spares_what_needs_only_the_other() -> None:
    band = {target: Band(-1.0, 1.0) for target in Target}
    clear, unsure = cascade(Says(), Says(fails=True), band).moderate_each(
        [Conversation.of("3"), Conversation.of("0.5")]
    )
    assert not isinstance(clear, GuardError)
    assert clear.outcome is Outcome.UNSAFE
    assert isinstance(unsure, EngineError)
    with pytest.raises(EngineError, match="the device is gone"):
        cascade(Says(fails=True), Says(), band).check("3")


def test_both_engines_are_closed_and_their_languages_are_those_of_both() -> None:
    first, second = Says(), Says()
    second.info = dataclasses.replace(second.info, languages=("en",))
    with cascade(first, second, NOTHING) as moderator:
        assert moderator.engine.info.languages == ("en",)
    assert first.closed
    assert second.closed


def test_json_says_which_bundles_decided() -> None:
    assert to_json(cascade(Says(), Says(), NOTHING).check("1"))["decided_by"] == "small one"
    assert "decided_by" not in to_json(Moderator(FakeEngine(), RULES).check("hello"))


@pytest.mark.asyncio
async def test_a_batcher_mixes_windows_of_both_stages() -> None:
    first, second = Says(), Says(factor=-1.0)
    moderator = cascade(first, second, {target: Band(-1.0, 1.0) for target in Target})
    engine = moderator.engine
    async with Batcher(engine.score, engine.cost) as batcher:
        with batcher.reserve(3, 100) as slot:

            async def ask(windows: Sequence[Window]) -> list[Scored]:
                return [Scored(done.answer) for done in await slot.answer(windows)]

            steps = moderator.judge_each([Conversation.of(text) for text in ("-3", "0.5", "3")])
            answers = await run_async(steps, advance(steps), ask)
    assert [answer.decided_by for answer in answers if not isinstance(answer, Exception)] == [
        "small one",
        "small one+large one",
        "small one",
    ]
