"""The hold-back machine: deltas of a reply in, checks to make and text to release out (sans-IO, without a clock).

A check between covers the new sentences, the last characters before them and the end of the context, so that its cost
does not grow with the reply: all checks together cost at most a constant times the reply's length, for an encoder in
windows and for a causal guard in prefilled tokens on top of the policy's cached keys and values. (A causal guard
prefills those last characters again in each check: of its cache only the policy outlives a call.) The check at the end
covers the whole conversation, and is what Moderate says of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from guard.conversation import Conversation, Message
from guard.errors import GuardError, InvalidInput, TooLarge
from guard.stream.deltas import Deltas
from guard.stream.options import StreamOptions
from guard.stream.sentences import Ends, first_space, last_space
from guard.verdict import Outcome, Verdict, log_odds
from guard.views.tokenize import end_of

CONTEXT = 600  # characters before the reply, the last ones, that a check between covers
READ_AHEAD = 2  # times `characters` after which nothing more is taken in while a check is under way


@dataclass(frozen=True, slots=True)
class Check:
    """A verdict to ask for, on the characters `start` to `end` of the reply. final: on the whole conversation."""

    conversation: Conversation
    start: int
    end: int
    final: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """What has become known or free to show.

    released: what may be shown from now on. answer: of the check that made the difference, with the characters of the
    reply that it covers; None where text was released unchecked (`observe`). held: characters that came and have no
    verdict of SAFE yet; where all is shown at once, what a careful reader would hold back. stopped: nothing more is
    released.
    """

    released: str = field(default="", repr=False)
    answer: Verdict | GuardError | None = None
    start: int = 0
    end: int = 0
    held: int = 0
    final: bool = False
    stopped: bool = False


class HoldBack:
    """A reply to `context`, of at most `limit` characters. One check is under way at a time. lenient: an error of a
    check counts as SAFE.

    Feed it with `push` and `end`, make the check that is `due` and answer it with `judged`. `done`: after the final
    answer, or once it is stopped.
    """

    def __init__(self, context: Sequence[Message], options: StreamOptions, limit: int, lenient: bool = False) -> None:
        self.options, self.limit, self._lenient = options, limit, lenient
        self.received = 0  # characters of the reply so far
        self.blank = True  # nothing of them can be judged
        self.done = False
        self._context = tuple(context)
        self._short = _end_of(self._context)
        self._deltas = Deltas()
        self._parts: list[str] = []
        self._text, self._base = "", 0  # the reply from its character `_base` on: what checks between may cover
        self._more: list[str] = []  # what follows that; joined for a check, since it may come by the character
        self._safe = 0  # up to there a verdict of SAFE covers the reply
        self._from = 0  # the same, or later where what was not SAFE has been shown for long (`observe`)
        self._checked = 0  # end of the last check
        self._ends = Ends(0)  # of the sentences after that
        self._visible = False  # whether anything after it can be judged
        self._since = 0.0  # when the first came that can
        self._against = 0  # checks in a row that were not SAFE
        self._ended = False
        self._check: Check | None = None

    @property
    def wants_input(self) -> bool:
        """Whether to feed it: while it waits for a verdict, until READ_AHEAD times `characters` have none.

        Where all is shown at once anyway (`observe`), as far as the reply may go.
        """
        if self.done or self._ended:
            return False
        if self._check is None or self.options.release == "observe":
            return True
        return self.received - self._checked < READ_AHEAD * self.options.characters

    def push(self, delta: str | bytes, now: float) -> list[Progress]:
        """Takes in a delta. Raises TooLarge when the reply has too many characters, InvalidInput after its end."""
        if self._ended:
            raise InvalidInput("the reply has ended; no text may follow")
        return self._take(self._deltas.push(delta), now)

    def end(self, now: float) -> list[Progress]:
        """The reply is complete: the final check is due."""
        if self._ended:
            return []
        progress = self._take(self._deltas.end(), now)
        self._ended = True
        return progress

    def _take(self, text: str, now: float) -> list[Progress]:
        if not text or self.done:
            return []
        if self.received + len(text) > self.limit:
            raise TooLarge(f"the reply has more characters than its conversation may have ({self.limit} are left)")
        if not text.isspace():
            if not self._visible:
                self._since = now
            self._visible, self.blank = True, False
        self.received += len(text)
        self._ends.push(text)
        self._parts.append(text)
        self._more.append(text)
        if self.options.release == "hold":
            return []
        return [Progress(text, held=self.received - self._safe)]

    def wait(self, now: float) -> float | None:
        """Seconds after which a check is due if no delta comes before; None: no time makes one due."""
        if self.done or self._ended or self._check is not None or not self._visible:
            return None
        return max(0.0, self._since + self.options.seconds - now)

    def due(self, now: float) -> Check | None:
        """The check to make now, until whose answer no other is due.

        Raises InvalidInput at the end of a reply without a visible character, which cannot be judged.
        """
        if self.done or self._check is not None:
            return None
        if self._ended:
            whole = Conversation((*self._context, Message("assistant", "".join(self._parts))))
            self._check = Check(whole, 0, self.received, final=True)
            return self._check
        if (end := self._end(now)) is None:
            return None
        text, start = self._joined(), self._start()
        blank = text[self._checked - self._base : end - self._base].isspace()
        self._checked = end
        self._ends = Ends(end)
        self._ends.push(text[end - self._base :])
        self._visible = not text[end - self._base :].isspace() and end < self.received
        if blank:  # a later check covers it, together with what can be judged
            return None
        text = text[start - self._base : end - self._base]
        self._check = Check(Conversation((*self._short, Message("assistant", text))), start, end, final=False)
        self._since = now
        return self._check

    def _end(self, now: float) -> int | None:
        """Where a check that is due ends."""
        if not self._visible:
            return None
        if self._ends.last is not None:
            return self._ends.last
        if self.received - self._checked >= self.options.characters or now - self._since >= self.options.seconds:
            return self._base + last_space(self._joined(), self._checked - self._base)
        return None

    def _joined(self) -> str:
        """The reply from its character `_base` on."""
        self._text, self._more = self._text + "".join(self._more), []
        return self._text

    def _start(self) -> int:
        """Where a check starts: before all that is held, and `tail` characters before that, at a word."""
        start = self._from - self.options.tail
        if start <= 0:
            return 0
        return self._base + first_space(self._text, start - self._base, self._from - self._base)

    def judged(self, check: Check, answer: Verdict | GuardError) -> list[Progress]:
        """Takes in the answer to the check that was due."""
        if check is not self._check:
            raise ValueError("this is not the check that was due")
        self._check = None
        released = ""
        if self._lenient if isinstance(answer, GuardError) else answer.outcome is Outcome.SAFE:
            self._against = 0
            if self.options.release == "hold":
                released = self._joined()[self._safe - self._base : check.end - self._base]
            self._safe = self._from = check.end
        else:
            self._against += 1
        over = check.final or self._against >= self.options.stop_after or self._settles(answer)
        stopped = over and self._against > 0 and self.options.release == "hold"
        if over and self._against and not stopped:
            self._from = check.end  # what comes is judged with `tail` characters of it, no more
        self.done = check.final or stopped
        held = self.received - self._safe
        self._trim()
        return [Progress(released, answer, check.start, check.end, held, check.final, stopped)]

    def _settles(self, answer: Verdict | GuardError) -> bool:
        """Whether one answer is enough: an error, or a verdict far beyond its threshold."""
        if isinstance(answer, GuardError):
            return True
        margin = log_odds(answer.p_enforced) - log_odds(answer.threshold)
        return answer.outcome is Outcome.UNSAFE and margin >= self.options.sure

    def _trim(self) -> None:
        """Forgets what no check between will cover again."""
        keep = max(self._base, self._from - self.options.tail)
        self._text, self._base = self._text[keep - self._base :], keep


def _end_of(context: Sequence[Message]) -> tuple[Message, ...]:
    """The end of the context. What no guard can judge stays marked there, or text would be released that the last
    check does not cover."""
    kept = end_of(context, CONTEXT)
    marks = tuple(mark for each in context for mark in each.unjudged)
    return (dataclasses.replace(kept[0], unjudged=marks), *kept[1:]) if marks else kept
