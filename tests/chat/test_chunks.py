"""Streamed completions as a machine: however they are cut, only what was checked is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.chat.chunks import Chunk, ChunkStream
from guard.chat.completion import UpstreamError
from guard.chat.gate import Gate
from guard.chat.options import ChatOptions, OnError
from guard.chat.prompt import Prompt
from guard.chat.relay import Relay
from guard.conversation import Conversation, Message, parse_messages
from guard.errors import EngineError, TooLarge
from guard.serve.client.fail_open import FailOpen
from guard.stream import Release, StreamOptions, drive
from guard.stream.drive import Answer
from guard.verdict import Outcome
from tests.fixtures.upstream import SENTENCE
from tests.stream.test_holdback import verdict

ASKED = (Message("user", "hello"),)
OBSERVE = ChatOptions(stream=StreamOptions("observe"))


def chunk(delta: Mapping[str, Any], ends: str | None = None, index: int = 0) -> Chunk:
    return {"id": "1", "choices": [{"index": index, "delta": delta, "finish_reason": ends, "logprobs": {}}]}


def call(piece: str, name: str | None = None, index: int = 0) -> dict[str, Any]:
    function = {"arguments": piece} if name is None else {"arguments": piece, "name": name}
    return {"tool_calls": [{"index": index, "function": function}]}


def sent(chunks: list[Chunk], index: int = 0) -> tuple[str, str, list[str]]:
    """The text, the arguments of calls, and the reasons of the end that were sent of a choice."""
    choices = [one for each in chunks for one in each["choices"] if one["index"] == index]
    calls = [one for each in choices for one in each["delta"].get("tool_calls", ())]
    return (
        "".join(each["delta"].get("content") or "" for each in choices),
        "".join(each["function"].get("arguments", "") for each in calls),
        [each["finish_reason"] for each in choices if each["finish_reason"]],
    )


def machine(options: ChatOptions | None = None, count: int = 1, limit: int = 10_000) -> ChunkStream:
    return ChunkStream(ASKED, count, options or ChatOptions(), limit)


@given(
    st.lists(st.sampled_from([SENTENCE, "word ", "🙂", "\ud83d", "\ude42", "\n", " "]), max_size=8),
    st.lists(st.sampled_from(["{", "}", '"a b"', "\n"]), max_size=4),
    st.sampled_from(["", "I will not."]),
    st.lists(st.sampled_from(list(Outcome)), max_size=6),
)
def test_only_what_was_checked_is_sent_and_the_final_check_covers_the_whole_message(
    contents: list[str], arguments: list[str], refusal: str, outcomes: list[Outcome]
) -> None:
    pieces = [*(chunk({"content": each}) for each in contents), *(chunk({"refusal": each}) for each in refusal)]
    pieces += [chunk(call("", "mail")), *(chunk(call(each)) for each in arguments)] if arguments else []
    content = "".join(contents)
    message = {"role": "assistant", "content": content, "refusal": refusal or None}
    made = [{"type": "function", "function": {"name": "mail", "arguments": "".join(arguments)}}]
    (whole,) = parse_messages([{**message, "tool_calls": made if arguments else None}])
    joined = "".join(contents).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    script = iter(outcomes)
    judged: list[str] = []
    cleared: list[str] = []

    def judge(conversation: Conversation) -> Answer:
        outcome = next(script, Outcome.SAFE)
        judged.append(conversation.judged.content)
        cleared.extend([conversation.judged.content] if outcome is Outcome.SAFE else [])
        return verdict(outcome)

    holding = machine()
    out = list(drive(holding, [*pieces, chunk({}, "stop")], judge, clock=lambda: 0.0))
    text, called, reasons = sent(out)
    assert not any("logprobs" in str(each) and each["choices"][0]["logprobs"] for each in out)
    if not whole.content.strip():
        assert (judged, called, reasons) == ([], "".join(arguments), ["stop"])
        return
    if reasons == ["stop"]:
        assert judged[-1].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") == (
            "\n".join(filter(None, [joined, refusal, f"mail({''.join(arguments)})" if arguments else ""]))
        )
        assert (text, called) == (joined, "".join(arguments))
    else:
        assert reasons == ["content_filter"]
        assert called == ""
        shown = text.removesuffix(ChatOptions().refusal).removesuffix(ChatOptions().unjudged).removesuffix("\n\n")
        assert joined.startswith(shown)
        assert shown == "" or any(each.endswith(shown[-9:]) for each in cleared)


@pytest.mark.parametrize("kind", ["function", "custom"])
def test_calls_of_either_kind_are_judged_and_nothing_else_of_them_passes(kind: str) -> None:
    payload = {"function": "arguments", "custom": "input"}[kind]
    first = {
        "index": 0,
        "id": "c",
        "type": kind,
        kind: {"name": "mail", payload: "to ", "more": "x"},
        "extra": "kumquat",
    }
    pieces = [chunk({"tool_calls": [first]}), chunk({"tool_calls": [{"index": 0, kind: {payload: "ann"}}]})]
    judged: list[str] = []

    def judge(conversation: Conversation) -> Answer:
        judged.append(conversation.judged.content)
        return verdict()

    out = list(drive(machine(), [*pieces, chunk({}, "tool_calls")], judge, clock=lambda: 0.0))
    assert judged == ["mail(to ann)"]
    calls = [one for each in out for one in each["choices"][0]["delta"].get("tool_calls", ())]
    assert calls == [
        {"index": 0, "id": "c", "type": kind, kind: {"name": "mail", payload: "to "}},
        {"index": 0, kind: {payload: "ann"}},
    ]


def test_an_error_of_the_guard_is_raised_unless_all_is_shown() -> None:
    pieces = [chunk({"content": SENTENCE}), chunk({}, "stop")]
    with pytest.raises(EngineError):
        list(drive(machine(), pieces, lambda _: EngineError("gone"), clock=lambda: 0.0))
    shown = list(drive(relay(OBSERVE), pieces, lambda _: EngineError("gone"), clock=lambda: 0.0))
    assert shown == pieces


@pytest.mark.parametrize("release", ["hold", "observe"])
@pytest.mark.parametrize("on_error", ["raise", "block", "allow"])
def test_what_an_error_means(release: Release, on_error: OnError) -> None:
    """The first of three checks fails."""
    pieces = [*(chunk({"content": SENTENCE}) for _ in range(2)), chunk({}, "stop")]
    options = ChatOptions(stream=StreamOptions(release), on_error=on_error)
    answers: Iterator[Answer] = iter([EngineError("gone"), verdict(), verdict()])
    passing = relay(options)
    moderating = drive(passing, pieces, lambda _: next(answers), clock=lambda: 0.0)
    if on_error == "raise":
        with pytest.raises(EngineError):
            list(moderating)
        return
    text, _, reasons = sent(list(moderating))
    shown = "" if release == "hold" else SENTENCE
    if on_error == "block":
        assert text.removeprefix(shown).strip() == options.unjudged
        assert reasons == ["content_filter"]
    else:
        assert (text, reasons) == (SENTENCE * 2, ["stop"])
        assert passing.passes.counts == {("reply", "EngineError"): 1}


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": 1},
        chunk({"tool_calls": [1]}),
        chunk({"tool_calls": [{"index": "a"}]}),
        {"choices": [{"delta": 1}]},
        {"choices": [{"index": "a"}]},
    ],
)
def test_where_all_is_shown_an_odd_chunk_passes_and_is_counted(odd: Chunk) -> None:
    pieces = [chunk({"content": SENTENCE}), odd, chunk({"content": SENTENCE}), chunk({}, "stop")]
    judged: list[str] = []

    def judge(conversation: Conversation) -> Answer:
        judged.append(conversation.judged.content)
        return verdict()

    observing = relay(OBSERVE)
    assert list(drive(observing, pieces, judge, clock=lambda: 0.0)) == pieces
    assert judged[-1] == SENTENCE * 2
    assert observing.passes.counts == {("reply", "UpstreamError"): 1}
    with pytest.raises(UpstreamError):
        list(drive(relay(ChatOptions()), pieces, judge, clock=lambda: 0.0))


def relay(options: ChatOptions, limit: int = 10_000) -> Passing:
    return Passing(Gate(Prompt(ASKED), options, FailOpen()), limit)


class Passing(Relay[Chunk]):
    """A relay whose items are chunks."""

    def __init__(self, gate: Gate, limit: int) -> None:
        super().__init__(gate, limit, lambda chunk: chunk, lambda chunk: chunk)
        self.passes, self.inner = gate.passes, self._inner


def test_a_reply_that_is_too_long() -> None:
    pieces = [chunk({"content": SENTENCE}), chunk({}, "stop")]
    with pytest.raises(TooLarge):
        list(drive(machine(limit=9), pieces, lambda _: verdict(), clock=lambda: 0.0))
    watching = relay(OBSERVE, limit=9)
    assert list(drive(watching, pieces, lambda _: verdict(), clock=lambda: 0.0)) == pieces
    assert [type(each) for each in watching.inner.answers] == [TooLarge]


def test_choices_are_stopped_one_by_one() -> None:
    def judge(conversation: Conversation) -> Answer:
        return verdict(Outcome.UNSAFE if "bad" in conversation.judged.content else Outcome.SAFE)

    pieces = [chunk({"content": SENTENCE if index else f"bad {SENTENCE}"}, None, index) for index in (0, 1)] * 5
    usage = {"total_tokens": 8, "details": {"cached": 1, "Said": 2, "text": "kumquat"}, "text": "kumquat"}
    pieces += [chunk({}, "stop", index) for index in (0, 1)]
    pieces += [{"id": "1", "choices": [], "usage": usage, "text": "kumquat"}]
    holding = machine(count=2)
    out = list(drive(holding, pieces, judge, clock=lambda: 0.0))
    assert sent(out, 0) == (ChatOptions().refusal, "", ["content_filter"])
    assert sent(out, 1) == (SENTENCE * 5, "", ["stop"])
    assert [each["choices"] for each in holding.last()] == [[]]
    assert holding.last()[0]["usage"] == {"total_tokens": 8, "details": {"cached": 1}}
    assert "kumquat" not in f"{holding.last()}"


def test_a_stream_that_breaks_off_is_checked_to_there_and_has_no_end() -> None:
    out = list(drive(machine(), [chunk({"content": "Half a"}), chunk(call("{", "mail"))], lambda _: verdict()))
    assert sent(out) == ("Half a", "{", [])


@pytest.mark.parametrize(
    "bad", [{}, {"choices": 1}, {"choices": [1]}, {"choices": [{"index": "a"}]}, {"choices": [{"delta": 1}]}]
)
def test_what_is_no_chunk(bad: Chunk) -> None:
    with pytest.raises(UpstreamError, match="the upstream sent a"):
        machine().push(bad, 0.0)
