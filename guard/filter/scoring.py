"""Scoring of texts by a guard in several threads, in batches of similar length."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from guard.conversation import Conversation
from guard.errors import EngineError, ServiceError
from guard.filter.scores import Scores, scores_of
from guard.moderator import Guard
from guard.verdict import Verdict

# About a second of one core, which a killed job loses; windows of similar texts fill the engine's batches all the same.
BATCH, BATCH_CHARACTERS = 64, 64_000
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_log = logging.getLogger(__name__)

Answers = dict[str, Scores | str]  # by digest the scores of a text, or why it has none
Batch = Future[Answers]


class Scoring:
    """parallel: calls of the guard at a time. patience_s: how long one call is repeated while the service is gone.

    Use it in a `with` block, whose end drops what has not begun.
    """

    def __init__(self, guard: Guard, exclude: Sequence[str], parallel: int = 1, patience_s: float = 0.0) -> None:
        self.parallel = parallel
        self._guard, self._exclude, self._patience_s = guard, tuple(exclude), patience_s
        self._model = guard.info.model
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="scoring")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._threads.shutdown(cancel_futures=True)

    def submit(self, texts: Mapping[str, Conversation], commit: Callable[[Answers], None]) -> Batch:
        """Starts to score a batch of texts by digest; `commit` is called with the answers, in the scoring thread.

        It raises ServiceError where the service is gone for too long, EngineError where the engine fails on every text,
        and what the guard and `commit` raise.
        """
        return self._threads.submit(self._score, texts, commit)

    def _score(self, texts: Mapping[str, Conversation], commit: Callable[[Answers], None]) -> Answers:
        verdicts = self._patiently(list(texts.values()))
        errors = [verdict for verdict in verdicts if isinstance(verdict, EngineError)]
        if 1 < len(verdicts) == len(errors):
            raise EngineError(f"none of {len(errors)} texts could be scored: {errors[0]}")
        answers: Answers = {}
        for digest, verdict in zip(texts, verdicts, strict=True):
            if not isinstance(verdict, Verdict):
                answers[digest] = str(verdict)
            elif verdict.model != self._model:
                raise ServiceError("the guard has another model than when the job began; start it with --restart")
            else:
                answers[digest] = scores_of(verdict)
        commit(answers)
        return answers

    def _patiently(self, conversations: Sequence[Conversation]) -> Sequence[Verdict | Exception]:
        started, wait_s = time.monotonic(), _FIRST_WAIT_S
        while True:
            answers = self._guard.moderate_each(conversations, exclude=self._exclude)
            outage = next((answer for answer in answers if isinstance(answer, ServiceError)), None)
            if outage is None:
                return answers
            if time.monotonic() - started + wait_s > self._patience_s or self._stopped.is_set():
                raise outage  # the service failed, not the texts: they are judged when the job resumes
            _log.warning("%s; the next attempt in %.0f s", outage, wait_s)
            self._stopped.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def batches(texts: Mapping[str, Conversation]) -> list[list[str]]:
    """The digests of texts in batches of similar length, as a function of the texts alone.

    Of the texts that are left without those of some of the batches, they are the other batches.
    """
    batches: list[list[str]] = []
    held = 0
    for digest in sorted(texts, key=lambda each: (_length(texts[each]), each)):
        length = _length(texts[digest])
        if not batches or len(batches[-1]) == BATCH or held + length > BATCH_CHARACTERS:
            batches.append([])
            held = 0
        batches[-1].append(digest)
        held += length
    return batches


def _length(conversation: Conversation) -> int:
    return sum(len(message.content) for message in conversation.messages)
