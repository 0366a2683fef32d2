"""Replies that are judged while they are written, by the service's own batcher."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from guard.conversation import Conversation, Message
from guard.errors import GuardError, InvalidInput, Overloaded, TooLarge
from guard.serve.core.request import Options, Request
from guard.serve.core.service import Answer, Service
from guard.serve.limits import Limits
from guard.stream import HoldBack, Progress, StreamOptions, drive_async

_LEAST_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A reply to `context`, which its deltas bring, under options that hold for all of its checks."""

    context: tuple[Message, ...] = field(repr=False)
    options: Options = field(default_factory=Options)
    stream: StreamOptions = field(default_factory=StreamOptions)


class Streams:
    """Counts the streams that are open."""

    def __init__(self) -> None:
        self.open = 0

    @contextmanager
    def one_more(self, limits: Limits) -> Iterator[None]:
        """Raises Overloaded where no other may be opened."""
        if self.open >= limits.streams:
            raise Overloaded(f"{self.open} streams are open, of at most {limits.streams}; try again later")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


async def moderated(
    service: Service, request: StreamRequest, deltas: AsyncIterator[str | bytes]
) -> AsyncGenerator[Progress, None]:
    """What the checks of a reply bring, decided by exact scores and told as `Service.judge` tells them; where all is
    shown at once (`observe`), that is not repeated.

    A check that the queue has no room for waits for it, for as long as a request may take, and with it the deltas.
    Raises what `Service.judge` raises for the context and the options, TooLarge or InvalidInput for the reply, and the
    error of a check unless all is shown anyway. Nothing is released after an error.
    """
    await service.policy(request.options)
    if service.scores != "exact" and request.stream.sure != (own := StreamOptions().sure):
        raise InvalidInput(
            f"sure_log_odds must be {own:g} on this server, which tells no exact scores: by when a "
            "stream is stopped, others would tell them"
        )
    limits = service.limits
    if len(request.context) >= limits.conversation_messages:
        raise InvalidInput(f"context has {len(request.context)} messages, must be < {limits.conversation_messages}")
    before = sum(len(each.content) for each in request.context)
    if before >= limits.conversation_characters:
        raise TooLarge(f"context has {before} characters, must be < {limits.conversation_characters}; send less of it")

    async def judge(conversation: Conversation) -> Answer:
        return await _patient(service, Request((conversation,), request.options))

    machine = HoldBack(request.context, request.stream, limits.conversation_characters - before)
    async with aclosing(drive_async(machine, deltas, judge)) as progress:
        async for one in progress:
            if one.stopped and isinstance(one.answer, GuardError):
                raise one.answer
            if one.answer is not None:
                yield dataclasses.replace(one, answer=service.disclosed(one.answer))


async def _patient(service: Service, request: Request) -> Answer:
    """The answer to the only conversation of a request, or the error of all."""
    clock = asyncio.get_running_loop().time
    end = clock() + service.limits.request_seconds
    while True:
        try:
            return (await service.judge_exactly(request))[0]
        except Overloaded as error:
            pause = max(error.retry_after_s, _LEAST_PAUSE_S) * random.uniform(1, 2)  # not all streams at once
            if clock() + pause > end:
                return error
        except GuardError as error:
            return error
        await asyncio.sleep(pause)
