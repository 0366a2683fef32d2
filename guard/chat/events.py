"""Server-sent events, as the HTML standard has them: what arrives in bytes of any cut, as events."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from guard.chat.completion import UpstreamError

LONGEST = 4 << 20  # bytes of an event
_BREAK = re.compile(rb"\r\n|\n|\r")  # nothing else ends a line: U+2028 and U+0085 are characters of JSON like others
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """An event's bytes as they came, and its data: None for a comment, or a rest that no blank line ends.

    problem: why its data is not to be had.
    """

    raw: bytes = field(repr=False)
    data: str | None = field(default=None, repr=False)
    problem: UpstreamError | None = None


class Events:
    """Takes in bytes, and gives the events that are complete with them."""

    def __init__(self) -> None:
        self._raw, self._line = bytearray(), bytearray()
        self._data: list[bytes] = []
        self._first, self._after_return, self._too_long = True, False, False

    def push(self, sent: bytes) -> list[Event]:
        found: list[Event] = []
        place = 0
        if self._after_return and sent.startswith(b"\n"):  # of a CRLF that was cut
            self._raw += b"\n"
            place = 1
        if sent:
            self._after_return = sent.endswith(b"\r")
        for end in _BREAK.finditer(sent, place):
            self._take(sent[place : end.start()])
            self._raw += end[0]
            place = end.end()
            if self._line:
                self._end_line()
            else:
                found.append(self._event())
        self._take(sent[place:])
        if len(self._raw) > LONGEST:  # it passes as it is, where all does, and is not kept
            self._too_long = True
            found.append(self._event(ended=False))
        return found

    def end(self) -> list[Event]:
        """What is left when nothing more comes, which is no event."""
        return [Event(bytes(self._raw))] if self._raw else []

    def _take(self, part: bytes) -> None:
        self._raw += part
        if not self._too_long:
            self._line += part
        elif part:
            self._line[:] = b"-"  # not blank; what it says is of no use

    def _end_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self._first:
            line, self._first = line.removeprefix(_BOM), False
        name, _, value = line.partition(b":")
        if name == b"data" and not self._too_long:
            self._data.append(value.removeprefix(b" "))

    def _event(self, ended: bool = True) -> Event:
        raw, data = bytes(self._raw), b"\n".join(self._data) if self._data else None
        problem = None
        if self._too_long:
            data, problem = None, UpstreamError(f"the upstream sent an event of more than {LONGEST} bytes")
        self._raw.clear()
        self._data.clear()
        if ended:
            self._too_long = False
        else:
            self._line[:] = b"-" if self._line else b""
        return Event(raw, None if data is None else data.decode(errors="replace"), problem)


async def events(sent: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The events of a stream of bytes, and at last what is left of it."""
    decoder = Events()
    async for part in sent:
        for event in decoder.push(part):
            yield event
    for event in decoder.end():
        yield event
