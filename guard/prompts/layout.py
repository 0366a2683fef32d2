"""The one window cutter: which parts of a long conversation share a window, in counts of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CONTEXT_SHARE = 3  # with a long judged message, one part in this many of each window is for the context
SMALLEST_ROOM = 64  # tokens that a policy and a template must leave for the conversation
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


def spans(total: int, size: int, overlap: int) -> list[Span]:
    """Half-open ranges of at most `size` tokens that cover 0…total, neighbours sharing at least `overlap`.

    The last one is as long as the others, so that a short remainder is never judged without its surroundings.
    An empty sequence has one empty range.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"size must be >= 1 and 0 <= overlap < size (got: size {size}, overlap {overlap})")
    if total <= size:
        return [(0, total)]
    starts = list(range(0, total - size, size - overlap))
    return [(start, start + size) for start in starts] + [(total - size, total)]


def layout(
    judged: int, context: int, room: int, overlap: int, marks: int = 0, bridge: int | None = None
) -> list[tuple[Span, Span]]:
    """Ranges of the judged message's tokens and of its context's (marks included), a pair a window of `room` tokens.

    Together they hold every token: the judged message slides beside the end of its context, then, where the context
    did not fit, the rest of the context slides beside the start of the judged message.
    marks: tokens that a range may need beyond its own where the context is cut. bridge: tokens after the start of the
    context's end that the rest holds, too (None: what neighbours of the rest share).
    """
    least = max(judged, 1)  # one place stays for the judged message even where none of it can be tokenized
    if least + context <= room:
        return [((0, judged), (0, context))]
    if not context:
        return [(span, (0, 0)) for span in spans(judged, room, min(overlap, room // 2))]
    room -= marks
    tail = min(context, max(room // CONTEXT_SHARE, room - least))
    slides = spans(judged, room - tail, min(overlap, (room - tail) // 2))
    pairs = [(span, (context - tail, context)) for span in slides]
    if context > tail:
        first = slides[0]
        size = room - (first[1] - first[0])
        shared = min(overlap, size // 4)
        rest = context - tail + min(shared if bridge is None else bridge, tail)
        pairs += [(first, chunk) for chunk in spans(rest, size, shared)]
    return pairs


def within(context: Sequence[Turn], first: int, last: int) -> list[tuple[int, int, int]]:
    """The turns that the range `first` to `last` of the context touches: index, and the range of the turn's text."""
    touched = []
    position = 0
    for index, turn in enumerate(context):
        begin = position + turn.before
        if position < last and position + turn.total > first:
            start = min(max(first - begin, 0), turn.text)
            touched.append((index, start, max(min(last - begin, turn.text), start)))
        position += turn.total
    return touched
