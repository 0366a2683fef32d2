"""An engine whose scoring is done by worker processes: a crash of the model's runtime ends one of them, and no more."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from guard.conversation import Conversation
from guard.engines.base import Engine, Renderer
from guard.engines.session import CLOSED
from guard.engines.worker import Worker
from guard.errors import EngineDown, EngineError
from guard.policy import Policy
from guard.prompts.window import Score, TokenizedConversation, Window


class EnginePool:
    """So many equal workers, each with an engine of its own; `warm` starts them. Windows are made in this process.

    opener: see guard.engines.worker. A call of `score` goes to one worker that does nothing else, and raises EngineDown
    where that ends, or none is ready.
    """

    def __init__(self, renderer: Renderer, opener: Callable[[], Engine], workers: int = 1) -> None:
        self.renderer = renderer
        self.info = dataclasses.replace(renderer.info, parallel_calls=workers)
        self._condition = threading.Condition()
        self.workers = tuple(Worker(opener, self._changed) for _ in range(workers))
        self._busy: set[Worker] = set()
        self._closed = False

    @property
    def ready(self) -> bool:
        return any(worker.ready for worker in self.workers)

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        return self.renderer.tokenize(conversation, policy)

    def cost(self, window: Window) -> int:
        return self.renderer.cost(window)

    def warm(self) -> None:
        """Raises the error of a worker that cannot open the engine."""
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            worker.opened()

    def prepare(self, policy: Policy) -> None:
        """In every worker that is ready; one that starts later prepares when it scores."""
        self._check_open()
        for asked in [worker.ask("prepare", policy) for worker in self.workers if worker.ready]:
            with suppress(EngineDown):
                asked.result()

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        with self._idle() as worker:
            scores: list[Score | EngineError] = worker.ask("score", list(windows)).result()
        return scores

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for worker in self.workers:
            worker.close()

    @contextmanager
    def _idle(self) -> Iterator[Worker]:
        """A worker that is ready and does nothing else, once there is one."""
        with self._condition:
            while True:
                self._check_open()
                ready = [worker for worker in self.workers if worker.ready]
                if not ready:
                    raise EngineDown
                if (free := next((worker for worker in ready if worker not in self._busy), None)) is not None:
                    break
                self._condition.wait()
            self._busy.add(free)
        try:
            yield free
        finally:
            with self._condition:
                self._busy.discard(free)
                self._condition.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(CLOSED)

    def _changed(self) -> None:
        with self._condition:
            self._condition.notify_all()
