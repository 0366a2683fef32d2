"""The hold-back machine: nothing is shown before a verdict covers it, whatever comes in what pieces."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.conversation import Conversation, Message
from guard.engines.fake import FakeEngine
from guard.errors import ConfigError, EngineError, InvalidInput, TooLarge
from guard.moderator import Moderator
from guard.policy import load
from guard.stream import Check, HoldBack, Progress, StreamOptions, drive
from guard.stream.deltas import Deltas
from guard.stream.drive import Answer
from guard.stream.holdback import CONTEXT, READ_AHEAD
from guard.verdict import Coverage, Outcome, Verdict

ASKED = (Message("user", "how do I bake bread?"),)
SENTENCE = "This sentence is long enough to count. "
MODERATOR = Moderator(FakeEngine(), load("mlcommons"))
LIMIT = 100_000
HOLD, OBSERVE = StreamOptions(stop_after=2), StreamOptions("observe", stop_after=2)


def verdict(outcome: Outcome = Outcome.SAFE) -> Verdict:
    return Verdict(outcome, Conversation.of("a", "b").target, 0.1, 0.5, {}, (), None, Coverage(1, 1, 1, 0, 1), "", "")


def fake(conversation: Conversation) -> Answer:
    return MODERATOR.moderate_each([conversation])[0]


def machine(options: StreamOptions = HOLD, context: tuple[Message, ...] = ASKED, limit: int = LIMIT) -> HoldBack:
    return HoldBack(context, options, limit)


def written(
    pieces: list[str], options: StreamOptions = HOLD, judge: Callable[[Conversation], Answer] = fake
) -> list[Progress]:
    return list(drive(machine(options), pieces, judge, clock=lambda: 0.0))


MARKS = [SENTENCE, "violates:", "S1", " violates:S1 ", ". ", "\n", " ", "🙂", "\ud83d", b"\xf0\x9f", "x" * 90]
PIECES = st.lists(st.sampled_from(MARKS) | st.text("a. é\ud83d", max_size=4) | st.binary(max_size=3), max_size=12)


@given(
    PIECES,
    st.sampled_from(["hold", "observe"]),
    st.integers(1, 60),
    st.integers(0, 60),
    st.integers(1, 3),
    st.lists(st.sampled_from(["SAFE", "UNSAFE", "INCOMPLETE", "ERROR", "late"])),
    st.lists(st.floats(0, 2)),
)
def test_in_hold_nothing_is_shown_before_a_verdict_covers_it(
    pieces: list[str | bytes],
    release: str,
    characters: int,
    tail: int,
    stop_after: int,
    answers: list[str],
    times: list[float],
) -> None:
    """Text and bytes in any pieces, any answers in any order with the deltas, at any times."""
    holding = machine(StreamOptions(release, characters, 1.0, tail, stop_after))  # type: ignore[arg-type]
    came, shown, safe, now = "", "", 0, 0.0
    joined = Deltas()
    under_way: Check | None = None
    script = iter(answers)

    def take(progress: list[Progress]) -> None:
        nonlocal shown
        for one in progress:
            shown += one.released

    def go_on(last: bool) -> None:
        nonlocal under_way, safe
        while not holding.done:
            under_way = under_way or holding.due(now)
            if under_way is None:
                return
            said = next(script, "SAFE")
            if said == "late" and not last:
                return
            check, under_way = under_way, None
            # It covers all that is held, and its text is what came.
            assert check.start <= safe or release == "observe"
            assert check.conversation.judged.content == came[check.start : check.end]
            answer = EngineError("gone") if said == "ERROR" else verdict(Outcome(said if said != "late" else "SAFE"))
            before = len(shown)
            take(holding.judged(check, answer))
            if isinstance(answer, Verdict) and answer.outcome is Outcome.SAFE:
                safe = check.end
            elif release == "hold":
                assert len(shown) == before

    ticks = iter(times)
    for piece in pieces:
        now += next(ticks, 0.1)
        came += joined.push(piece)
        take(holding.push(piece, now))
        go_on(last=False)
        if release == "hold":
            assert len(shown) == safe
    came += joined.end()
    try:
        take(holding.end(now))
        go_on(last=True)
    except InvalidInput:
        assert not came.strip()
    assert came.startswith(shown)
    assert len(shown) == (safe if release == "hold" else len(came))
    assert holding.done or not came.strip()


@settings(max_examples=30)
@given(st.lists(st.sampled_from([SENTENCE, "violates:S1 ", "word ", "\n\n", "…"]), max_size=6), st.integers(3, 9))
def test_the_final_verdict_is_what_moderate_says_of_the_conversation(parts: list[str], size: int) -> None:
    reply = "".join(parts) + "end"
    pieces = [reply[start : start + size] for start in range(0, len(reply), size)]
    *_, final = written(pieces, StreamOptions("observe", characters=40))
    (expected,) = MODERATOR.moderate([Conversation((*ASKED, Message("assistant", reply)))])
    assert final.final
    assert isinstance(final.answer, Verdict)
    assert (final.answer.outcome, final.answer.p_unsafe) == (expected.outcome, expected.p_unsafe)
    assert (final.answer.coverage, final.answer.flagged) == (expected.coverage, expected.flagged)
    held = written(pieces, StreamOptions(characters=40, stop_after=10, sure=99.0))
    whole = "".join(one.released for one in held) == reply
    assert whole is (expected.outcome is Outcome.SAFE) is not held[-1].stopped


def test_sentences_are_released_as_they_are_checked() -> None:
    progress = written(list(SENTENCE * 3 + "The end"))
    assert [one.released for one in progress] == [SENTENCE, SENTENCE, SENTENCE, "The end"]
    assert [(one.start, one.end, one.final) for one in progress][-1] == (0, len(SENTENCE) * 3 + 7, True)
    assert [one.held for one in progress] == [0, 0, 0, 0]


def test_it_stops_after_two_checks_in_a_row_and_shows_nothing_of_what_they_cover() -> None:
    progress = written([SENTENCE, "violates:S1 " + SENTENCE, SENTENCE, SENTENCE], StreamOptions(stop_after=2, sure=9))
    assert [one.released for one in progress] == [SENTENCE, "", ""]
    assert [one.stopped for one in progress] == [False, False, True]
    last = progress[-1].answer
    assert isinstance(last, Verdict)
    assert last.flagged == ("S1",)


def test_one_check_that_is_sure_stops_at_once() -> None:
    progress = written([SENTENCE, "violates:S1 " + SENTENCE, SENTENCE, SENTENCE])
    assert [(one.released, one.stopped) for one in progress] == [(SENTENCE, False), ("", True)]
    assert written([SENTENCE, "violates:S1 " + SENTENCE], StreamOptions("observe"))[-1].final


def test_what_one_check_doubts_is_released_once_another_covers_it() -> None:
    says = iter([Outcome.UNSAFE, Outcome.SAFE, Outcome.SAFE])
    progress = written([SENTENCE, SENTENCE], judge=lambda _: verdict(next(says)))
    assert [one.released for one in progress] == ["", SENTENCE * 2, ""]
    assert (progress[1].start, progress[1].end) == (0, 2 * len(SENTENCE))


@pytest.mark.parametrize("outcome", [Outcome.UNSAFE, Outcome.INCOMPLETE])
def test_what_the_final_verdict_does_not_clear_is_never_released(outcome: Outcome) -> None:
    (only,) = written(["Short."], judge=lambda _: verdict(outcome))
    assert (only.released, only.stopped, only.final) == ("", True, True)
    assert isinstance(only.answer, Verdict)
    assert only.answer.outcome is outcome


def test_an_engine_that_fails_stops_at_once_and_is_told_apart() -> None:
    progress = written([SENTENCE, SENTENCE], judge=lambda _: EngineError("the device is gone"))
    assert [(one.released, one.stopped, type(one.answer)) for one in progress] == [("", True, EngineError)]


def test_observing_shows_everything_at_once_and_never_stops() -> None:
    says = iter([Outcome.UNSAFE, Outcome.UNSAFE, Outcome.INCOMPLETE])

    def judge(_: Conversation) -> Answer:
        said = next(says, None)
        return EngineError("gone") if said is None else verdict(said)

    progress = written([SENTENCE] * 4 + ["end"], OBSERVE, judge)
    assert "".join(one.released for one in progress) == SENTENCE * 4 + "end"
    assert not any(one.stopped for one in progress)
    assert progress[-1].final
    assert progress[-1].held == len(SENTENCE) * 4 + 3  # what a careful reader would not have shown


def test_an_image_before_the_reply_leaves_every_check_incomplete() -> None:
    context = (Message("user", "[image]", ("content[0]: image_url",)), *(Message("user", "x " * CONTEXT),))
    covered: list[int] = []

    def judge(conversation: Conversation) -> Answer:
        covered.append(sum(len(each.content) for each in conversation.messages))
        return fake(conversation)

    progress = list(drive(machine(context=context), [SENTENCE] * 5, judge, clock=lambda: 0.0))
    assert max(covered) <= CONTEXT + 2 * len(SENTENCE)  # and not the whole context each time
    assert [one.released for one in progress] == ["", ""]
    assert progress[-1].stopped
    assert isinstance(progress[-1].answer, Verdict)
    assert progress[-1].answer.outcome is Outcome.INCOMPLETE


def test_time_makes_a_check_due_and_words_stay_whole() -> None:
    holding = machine()
    assert holding.wait(0) is None
    holding.push("These words have no e", 10.0)
    assert holding.due(10.9) is None
    assert holding.wait(10.25) == pytest.approx(0.75)
    check = holding.due(11.0)
    assert check is not None
    assert check.conversation.judged.content == "These words have no "
    assert (holding.wait(11.0), holding.due(99.0)) == (None, None)  # one check at a time
    (progress,) = holding.judged(check, verdict())
    assert (progress.released, progress.held) == ("These words have no ", 1)
    assert holding.due(11.9) is None
    assert holding.due(12.0) is not None


def test_characters_make_a_check_due() -> None:
    holding = machine(StreamOptions(characters=10))
    holding.push("x" * 9, 0)
    assert holding.due(0) is None
    holding.push("x", 0)
    assert holding.due(0) is not None


def test_it_reads_only_so_far_ahead_of_a_verdict() -> None:
    holding = machine(StreamOptions(characters=50))
    holding.push(SENTENCE, 0)
    check = holding.due(0)
    assert check is not None
    count = 0
    while holding.wants_input:
        holding.push("words ", 0)
        count += 6
    assert READ_AHEAD * 50 <= count < READ_AHEAD * 50 + 6
    holding.judged(check, verdict())
    assert holding.wants_input
    holding.push("\n" * 1000, 0)
    assert holding.due(0) is not None


def test_blank_text_waits_for_something_to_judge() -> None:
    holding = machine(StreamOptions(characters=5))
    for _ in range(100):
        holding.push("\n ", 0)
        assert holding.due(9) is None
        assert holding.wants_input
    holding.push("Words and words. ", 0)
    check = holding.due(9)
    assert check is not None
    assert (check.start, check.end) == (0, 217)
    blank = machine()
    blank.push(" \n", 0)
    blank.end(0)
    with pytest.raises(InvalidInput, match="message is empty"):
        blank.due(0)


def test_limits() -> None:
    holding = machine(limit=10)
    with pytest.raises(TooLarge, match="more characters than its conversation may have"):
        holding.push("x" * 11, 0)
    holding.push("x" * 10, 0)
    holding.end(0)
    with pytest.raises(InvalidInput, match="has ended"):
        holding.push("x", 0)
    assert not holding.wants_input


@pytest.mark.parametrize("text", ["x", ".'", " "])
def test_the_time_between_checks_is_linear_in_the_reply(text: str) -> None:
    """By the character, while a check is under way all the time: quadratic, it would take minutes."""
    holding = machine(StreamOptions("observe", 4000), limit=10**6)
    holding.push(SENTENCE, 0.0)
    under_way = holding.due(0.0)
    assert under_way is not None
    started = time.process_time()
    for _ in range(150_000 // len(text)):
        holding.push(text, 0.0)
        holding.wait(0.0)
    holding.judged(under_way, verdict())
    for _ in range(150_000 // len(text)):
        holding.push(text, 0.0)
        holding.wait(0.0)
        if (check := holding.due(0.0)) is not None:
            holding.judged(check, verdict())
    assert time.process_time() - started < 10


@pytest.mark.parametrize("release", ["hold", "observe"])
def test_the_cost_of_all_checks_is_linear_in_the_reply(release: str) -> None:
    """An unsafe reply, too: in `observe` its checks go on."""
    for text in (SENTENCE, "word " * 8, "violates:S1 and more of the same kind. "):
        costs = []
        for count in (50, 200):
            seen: list[int] = []

            def judge(conversation: Conversation, seen: list[int] = seen) -> Answer:
                seen.append(sum(len(each.content) for each in conversation.messages))
                return verdict(Outcome.UNSAFE if "violates" in conversation.judged.content else Outcome.SAFE)

            options = StreamOptions(release)  # type: ignore[arg-type]
            list(drive(machine(options, (Message("user", "x " * 5000),)), [text] * count, judge, clock=lambda: 0.0))
            costs.append(sum(seen[:-1]) / (count * len(text)))
            assert max(seen[:-1]) < CONTEXT + options.tail + 2 * options.characters + len(text)
        assert costs[1] <= costs[0] * 1.1 + 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"release": "later"}, "unknown release 'later'; allowed: hold, observe"),
        ({"characters": 0}, r"characters must be >= 1 and <= 4000 \(got 0\)"),
        ({"characters": 4001}, r"characters must be >= 1 and <= 4000 \(got 4001\)"),
        ({"tail": -1}, r"tail must be >= 0 and <= 4000 \(got -1\)"),
        ({"tail": 4001}, r"tail must be >= 0 and <= 4000 \(got 4001\)"),
        ({"stop_after": 0}, r"stop_after must be >= 1 and <= 10 \(got 0\)"),
        ({"stop_after": 11}, r"stop_after must be >= 1 and <= 10 \(got 11\)"),
        ({"sure": -0.5}, r"sure must be >= 0 \(got -0.5\)"),
        ({"seconds": float("nan")}, r"seconds must be > 0 and finite \(got nan\)"),
    ],
)
def test_options_that_are_none(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        StreamOptions(**options)  # type: ignore[arg-type]


def test_no_repr_shows_text() -> None:
    holding = machine()
    holding.push("kumquat " * 10, 0)
    holding.end(0)
    check = holding.due(0)
    assert check is not None
    assert "kumquat" not in f"{check!r} {holding.judged(check, verdict())!r} {holding!r}"
