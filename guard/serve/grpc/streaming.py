"""StreamModerate: a stream of messages to the deltas of a reply, and what its checks bring to a stream of responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from guard.errors import InvalidInput
from guard.serve.core.service import Service
from guard.serve.core.streams import moderated
from guard.serve.grpc import stream_messages
from guard.v1 import moderation_pb2 as pb


async def stream_moderate(
    service: Service, sent: AsyncIterator[pb.StreamModerateRequest]
) -> AsyncGenerator[pb.StreamModerateResponse, None]:
    """The responses of a stream. Raises InvalidInput where messages do not come in their order."""
    first = await anext(sent, None)
    if first is None or first.WhichOneof("event") != "start":
        raise InvalidInput("the first message of a stream must have `start`")
    request = stream_messages.start_from_proto(first.start)
    late: asyncio.Future[pb.StreamModerateRequest | None] | None = None

    async def deltas() -> AsyncIterator[str | bytes]:
        nonlocal late
        async for one in sent:
            which = one.WhichOneof("event")
            if which == "text":
                yield one.text
            elif which == "utf8":
                yield one.utf8
            elif which == "end":
                late = asyncio.ensure_future(_next(sent))
                return
            elif which == "start":
                raise InvalidInput("`start` was sent a second time; open a stream for each reply")
            else:
                raise InvalidInput("a message of the stream has none of `text`, `utf8` and `end`")
        raise InvalidInput("the stream was closed before `end`; send it when the reply is complete")

    try:
        async with aclosing(moderated(service, request, deltas())) as progress:
            async for one in progress:
                if late is not None and late.done() and late.result() is not None:
                    raise InvalidInput("a message came after `end`")
                yield stream_messages.progress_to_proto(one)
        # A stopped stream ends when its client closes it: to end it while that still writes would fail the call.
        async for _ in sent:
            pass
    finally:
        if late is not None:
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)


async def _next(sent: AsyncIterator[pb.StreamModerateRequest]) -> pb.StreamModerateRequest | None:
    return await anext(sent, None)
