"""One choice of a streamed completion: its text through the hold-back machine, its tool calls held to the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guard.chat.completion import CALLS, FILTERED, UpstreamError, judged_call
from guard.chat.options import ChatOptions
from guard.chat.ruling import Answer, words
from guard.conversation import Message
from guard.errors import GuardError, TooLarge
from guard.message import parse_messages
from guard.stream import Check, HoldBack, Progress

Delta = dict[str, Any]
Piece = tuple[Delta, str | None]  # a delta to send, and the reason of the end with the last one


class Choice:
    """`content` is released as it is checked; a refusal and calls, which are of use only when complete, at the end.

    All of it is one message, rendered as guard.message does it. Where all is shown anyway (`observe`), nothing of what
    is returned here is sent.
    """

    def __init__(self, context: Sequence[Message], options: ChatOptions, limit: int) -> None:
        self.machine = HoldBack(context, options.stream, limit, options.on_errors == "allow")
        self.answer: Answer | None = None  # the last one; of a complete reply that on the whole
        self.closed = False  # its end has come
        self.empty = False  # and there was nothing to judge
        self.cut = False  # it was stopped before its end
        self._options = options
        self._content: int | None = None  # characters of it that are `content`, known at the end
        self._shown = 0
        self.reason: str | None = None  # of its end; None where it was cut off
        self._refusal = ""
        self._calls: dict[int, dict[str, Any]] = {}
        self._function: dict[str, str] | None = None
        self._wrote = False  # some `content`
        self._held: list[Delta] = []

    @property
    def done(self) -> bool:
        return self.empty or self.machine.done

    def push(self, delta: Mapping[str, Any], now: float) -> None:
        """Takes in a delta. Fields that are not judged are left out."""
        if self.done or self.closed:
            return
        if isinstance(content := delta.get("content"), str):
            self._wrote |= bool(content)
            self._take(content, now)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self._refusal += refusal
            self._held.append({"refusal": refusal})
        if isinstance(calls := delta.get("tool_calls"), list) and calls:
            self._held.append({"tool_calls": [self._add_call(call) for call in calls]})
        if isinstance(function := delta.get("function_call"), Mapping):
            piece = _texts(function, "arguments")
            self._function = _joined(self._function or {}, piece)
            self._held.append({"function_call": piece})

    def close(self, reason: str | None, now: float) -> list[Piece]:
        """Its end: the final check is due, unless there is nothing to judge. reason: None where it was cut off."""
        if self.closed or self.done:
            return []
        self.closed, self.reason = True, reason
        rest: dict[str, Any] = {"role": "assistant", "content": None, "refusal": self._refusal or None}
        rest |= {"tool_calls": list(self._calls.values()), "function_call": self._function}
        (rendered,) = parse_messages([rest], "choices")
        extra = f"\n{rendered.content}" if rendered.content and self._wrote else rendered.content
        self._take(extra, now)
        self.machine.end(now)
        self._content = self.machine.received - len(extra)
        if self.machine.blank:
            self.empty = True
            return self._end()
        return []

    def judged(self, check: Check, answer: Answer) -> list[Piece]:
        """What may be sent now. Raises the guard's error where the options say so."""
        pieces: list[Piece] = []
        self.answer = answer
        for progress in self.machine.judged(check, answer):
            if progress.stopped and isinstance(answer, GuardError) and self._options.on_errors == "raise":
                raise answer
            pieces += self._released(progress)
            if progress.stopped:
                pieces += self.stop(words(answer, self._options))
            elif progress.final:
                pieces += self._end()
        return pieces

    def stop(self, text: str) -> list[Piece]:
        """Its end in the assistant's words."""
        self.cut = not self.closed
        shown = self._shown if self._options.release == "hold" else self._wrote
        return [({"content": f"\n\n{text}" if shown else text}, None), ({}, FILTERED)]

    def _take(self, text: str, now: float) -> None:
        try:
            self.machine.push(text, now)
        except TooLarge as error:
            if self._options.release == "hold":
                raise
            self.empty, self.answer = True, error  # it is shown, and not judged

    def _released(self, progress: Progress) -> list[Piece]:
        left = len(progress.released) if self._content is None else max(0, self._content - self._shown)
        text = progress.released[:left]
        self._shown += len(text)
        return [({"content": text}, None)] if text else []

    def _end(self) -> list[Piece]:
        held: list[Piece] = [(delta, None) for delta in self._held]
        return [*held, ({}, self.reason)] if self.reason is not None else held

    def _add_call(self, call: object) -> Delta:
        """Takes in a piece of a call; returns what of it is judged, and may be sent once it is."""
        if not isinstance(call, Mapping):
            raise UpstreamError("the upstream sent a tool call that is no object")
        piece = judged_call(call)
        place = piece.get("index", len(self._calls))
        if not isinstance(place, int):
            raise UpstreamError("the upstream sent a tool call whose `index` is no number")
        whole = self._calls.setdefault(place, {})
        for kind, payload in CALLS.items():
            if kind in piece:
                piece[kind] = _texts(piece[kind], payload)
                whole[kind] = _joined(whole.get(kind, {}), piece[kind])
        return piece


def _texts(call: Mapping[str, Any], payload: str) -> dict[str, str]:
    return {key: call[key] for key in ("name", payload) if isinstance(call.get(key), str)}


def _joined(call: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    return {key: call.get(key, "") + more.get(key, "") for key in call.keys() | more.keys()}
