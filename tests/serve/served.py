"""Engines that can be held or made to fail, and a server on a real socket in the test's own event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from guard import AsyncGuardClient, Conversation, Moderator, Policy
from guard.batcher import Bounds
from guard.engines.base import Reading, Score, Window
from guard.engines.fake import FakeEngine
from guard.policy import load
from guard.serve.limits import Limits
from guard.serve.server import Running, Settings, serving


class HeldEngine(FakeEngine):
    """A FakeEngine that notes what it scores and waits for `gate` before each batch."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.busy = threading.Event()
        self.scored: list[bytes] = []

    def score(self, windows: Sequence[Window]) -> list[Score]:
        self.scored += [bytes(window.ids) for window in windows]
        self.busy.set()
        assert self.gate.wait(20)
        return super().score(windows)


class BrokenEngine(FakeEngine):
    """Fails with the very text that it was given, as a careless library would.

    `breaks read` fails while it is read, `breaks score` while it is scored, `is cancelled` is cancelled from inside.
    """

    def read(self, conversation: Conversation, policy: Policy) -> Reading:
        text = conversation.judged.content
        if "is cancelled" in text:
            raise asyncio.CancelledError(text)
        if "breaks read" in text:
            raise RuntimeError(text)
        return super().read(conversation, policy)

    def score(self, windows: Sequence[Window]) -> list[Score]:
        for window in windows:
            if b"breaks score" in bytes(window.ids):
                raise RuntimeError(bytes(window.ids).decode())
        return super().score(windows)


@dataclass(frozen=True)
class Served:
    """A running server and a client of it."""

    running: Running
    client: AsyncGuardClient

    async def accepted(self, windows: int) -> None:
        """Returns when the server holds so many windows that are not yet answered."""
        async with asyncio.timeout(10):
            while self.running.batcher.items != windows:
                await asyncio.sleep(0)


@asynccontextmanager
async def serve(
    engine: FakeEngine | None = None, limits: Limits | None = None, bounds: Bounds | None = None
) -> AsyncIterator[Served]:
    moderator = Moderator(engine or FakeEngine(), load("mlcommons"))
    settings = Settings(port=0, lame_duck_seconds=0, limits=limits or Limits(), bounds=bounds or Bounds())
    async with serving(moderator, settings) as running, AsyncGuardClient(running.address, 20) as client:
        yield Served(running, client)
