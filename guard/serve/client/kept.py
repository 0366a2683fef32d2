"""Verdicts that a client keeps, so that the same conversation is not sent again and again."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from guard.v1 import moderation_pb2 as pb
from guard.verdict import Verdict

KEPT_S = 300.0  # a server that has other policies or another model now is noticed after this time at the latest


class KeptVerdicts:
    """The last `most` verdicts, by digests of what was asked: no text is kept. Thread-safe.

    When an answer shows that the server judges by another model than before, all are forgotten.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._kept: OrderedDict[bytes, tuple[float, Verdict]] = OrderedDict()
        self._model: str | None = None
        self._lock = threading.Lock()

    def get(self, conversation: pb.Conversation, options: pb.ModerationOptions) -> Verdict | None:
        if not self._most:
            return None
        key = _key(conversation, options)
        with self._lock:
            until, verdict = self._kept.get(key, (0.0, None))
            if verdict is None or until <= self._clock():
                self._kept.pop(key, None)
                return None
            self._kept.move_to_end(key)
            return verdict

    def keep(self, conversation: pb.Conversation, options: pb.ModerationOptions, verdict: Verdict) -> None:
        if not self._most:
            return
        with self._lock:
            if verdict.model != self._model:
                self._kept.clear()
                self._model = verdict.model
            self._kept[_key(conversation, options)] = self._clock() + KEPT_S, verdict
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def _key(conversation: pb.Conversation, options: pb.ModerationOptions) -> bytes:
    asked = pb.ModerateRequest(conversation=conversation, options=options)
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).digest()
