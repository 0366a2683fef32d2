"""Scoring of texts by a guard in several threads, in batches of similar length."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from guard.conversation import Conversation
from guard.errors import EngineError, ServiceError
from guard.filter.scores import Scores, scores_of
from guard.moderator import Guard
from guard.verdict import Verdict

BATCH, BATCH_CHARACTERS = 128, 256_000
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_log = logging.getLogger(__name__)

Batch = Future[dict[str, Scores | EngineError | str]]


class Scoring:
    """parallel: calls of the guard at a time. patience_s: how long one call is repeated while the service is gone.

    Use it in a `with` block, whose end drops what has not begun. The batches of a shard are a function of its texts,
    whoever scores them, so that scores which differ a little by batch are the same in every run.
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

    def submit(self, texts: Mapping[str, Conversation]) -> list[Batch]:
        """Starts to score texts by digest. A batch answers each with its scores or the error of this text.

        It raises ServiceError where the service is gone for too long, and what the guard raises.
        """
        return [self._threads.submit(self._score, {key: texts[key] for key in keys}) for keys in _batches(texts)]

    def _score(self, texts: Mapping[str, Conversation]) -> dict[str, Scores | EngineError | str]:
        answers = self._patiently(list(texts.values()))
        results: dict[str, Scores | EngineError | str] = {}
        for digest, answer in zip(texts, answers, strict=True):
            if isinstance(answer, Verdict):
                if answer.model != self._model:
                    raise ServiceError("the guard has another model than when the job began; start it with --restart")
                results[digest] = scores_of(answer)
            else:
                results[digest] = answer if isinstance(answer, EngineError) else str(answer)
        return results

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


def _batches(texts: Mapping[str, Conversation]) -> list[list[str]]:
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
