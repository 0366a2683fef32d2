"""The service that answers now, and how a reload puts another in its place."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from guard.errors import Closed, GuardError, ReloadFailed
from guard.moderator import Moderator
from guard.serve.core.service import Service

log = logging.getLogger("guard.serve")


@dataclass(slots=True, eq=False)
class _Turn:
    """A service and how many requests use it."""

    service: Service
    users: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)


class Live:
    """Holds the service that is live. Use as `async with`: leaving it drains the accepted requests.

    A request `use`s the service that is live when it begins, to its end: one model, one queue, one set of policies. A
    replaced service is closed, and with it its moderator, when its last user has left.

    reopen: makes the next service, in a thread; None: it cannot be reloaded.
    prepare: what else a service needs before it goes live; it returns what to do in the moment in which it does, so
    that nobody sees the one service described and the other answering.
    """

    def __init__(
        self,
        service: Service,
        reopen: Callable[[], Service] | None = None,
        prepare: Callable[[Service], Awaitable[Callable[[], None]]] | None = None,
    ) -> None:
        self._turn = _Turn(service)
        self._reopen, self._prepare = reopen, prepare
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        (await self._enter(self.service))()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.service.__aexit__()

    @property
    def service(self) -> Service:
        """The one that is live. A request that awaits anything must `use` it."""
        return self._turn.service

    @contextmanager
    def use(self) -> Iterator[Service]:
        """The service that is live now, which stays open until the end of the block."""
        turn = self._turn
        turn.users += 1
        try:
            yield turn.service
        finally:
            turn.users -= 1
            if not turn.users:
                turn.left.set()

    async def drain(self) -> None:
        """Refuses new requests and reloads, and returns when the accepted requests are answered."""
        self._closing = True
        await self.service.drain()

    async def stopped(self) -> None:
        """Returns when the live service has stopped answering, drained or failed."""
        while True:
            service = self.service
            await service.stopped()
            if service is self.service:
                return

    async def reload(self) -> Service:
        """Opens a moderator anew and lets it answer all requests from now on; returns the service that is live then.

        It goes on if the caller is cancelled. Raises ReloadFailed where the service that was live before stays.
        """
        return await asyncio.shield(self._spawn(self._reload()))

    def reload_soon(self) -> None:
        """Begins a reload, whose end is in the log and the metrics."""

        async def quietly() -> None:
            with suppress(ReloadFailed):
                await self._reload()

        self._spawn(quietly())

    async def _reload(self) -> Service:
        async with self._reloading:
            observer = self.service.observer
            try:
                service, announce = await self._opened()
            except Exception as problem:  # noqa: BLE001 - whatever it is, the old service goes on
                reason = (
                    "; ".join(str(problem).splitlines()) if isinstance(problem, GuardError) else type(problem).__name__
                )
                log.error("reload failed, the model that was loaded before goes on: %s", reason)
                observer.reloaded(False)
                raise ReloadFailed(f"the model that was loaded before goes on: {reason}") from None
            before, self._turn = self._turn, _Turn(service)
            announce()
            observer.reloaded(True)
            log.warning("reloaded: model %s, policy %s", *_names(service))
            self._spawn(_retire(before))
            return service

    async def _opened(self) -> tuple[Service, Callable[[], None]]:
        if self._reopen is None:
            raise Closed("this server was started without a way to open its model again")
        if self._closing:
            raise Closed("the server is shutting down")
        service = await asyncio.to_thread(self._reopen)
        try:
            return service, await self._enter(service)
        except BaseException:
            service.moderator.close()
            raise

    async def _enter(self, service: Service) -> Callable[[], None]:
        """Lets it begin to answer; returns what to do when it goes live."""
        await service.__aenter__()
        try:
            announce = (lambda: None) if self._prepare is None else await self._prepare(service)
            if self._closing:
                raise Closed("the server is shutting down")
            return announce
        except BaseException:
            await service.__aexit__()
            raise

    def _spawn(self, work: Awaitable[Service | None]) -> asyncio.Task[Service]:
        task: asyncio.Task[Service] = asyncio.ensure_future(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _retire(turn: _Turn) -> None:
    while turn.users:
        turn.left.clear()
        await turn.left.wait()
    await turn.service.__aexit__()
    await asyncio.to_thread(_release, turn.service.moderator)


def _release(moderator: Moderator) -> None:
    """Closes it, and returns its memory to the system: of six reloads 250 MB stayed with the process otherwise."""
    moderator.close()
    gc.collect()  # a service and its tasks refer to one another
    with suppress(AttributeError, OSError):  # where there is no glibc
        ctypes.CDLL(None).malloc_trim(0)


def _names(service: Service) -> tuple[str, str]:
    info = service.moderator.info
    return info.model[:12], f"{info.policy.id} {info.policy.digest[:12]}"
