"""Which parts of a long conversation share a window, in counts of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guard.prompts.windows import windows

CONTEXT_SHARE = 3  # a long judged message leaves one part in this many of its windows to what was said before
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Turn:
    """Tokens of a turn: of its text, and of the marks before and after it."""

    before: int
    text: int
    after: int

    @property
    def total(self) -> int:
        return self.before + self.text + self.after


def layout(judged: int, context: Sequence[Turn], room: int, overlap: int) -> list[tuple[Span, Span]]:
    """Ranges of the judged message's tokens and of its context's (marks included), a pair a window of `room` tokens.

    Together they hold every token: the judged message slides beside the end of its context, then, where the context
    did not fit, the rest of the context slides beside the start of the judged message.
    """
    total = sum(turn.total for turn in context)
    if judged + total <= room:
        return [((0, judged), (0, total))]
    if not context:
        return [(span, (0, 0)) for span in windows(judged, room, min(overlap, room // 2))]
    # A range that starts or ends inside a turn is given that turn's marks again (see `within`).
    room -= 2 * max(turn.before + turn.after for turn in context)
    tail = min(total, max(room // CONTEXT_SHARE, room - judged))
    spans = windows(judged, room - tail, min(overlap, (room - tail) // 2))
    found = [(span, (total - tail, total)) for span in spans]
    if total > tail:
        size = room - (spans[0][1] - spans[0][0])
        rest = total - tail + min(overlap, tail)  # what lies across the tail's edge is read whole, too
        found += [(spans[0], chunk) for chunk in windows(rest, size, min(overlap, size // 4))]
    return found


def within(context: Sequence[Turn], first: int, last: int) -> list[tuple[int, int, int]]:
    """The turns that the range `first` to `last` of the context touches: index, and the range of the turn's text."""
    found = []
    position = 0
    for index, turn in enumerate(context):
        begin = position + turn.before
        if position < last and position + turn.total > first:
            start = min(max(first - begin, 0), turn.text)
            found.append((index, start, max(min(last - begin, turn.text), start)))
        position += turn.total
    return found
