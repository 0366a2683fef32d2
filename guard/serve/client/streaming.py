"""What both clients send in a stream."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from guard.stream.deltas import Deltas
from guard.v1 import moderation_pb2 as pb


class Outgoing:
    """The messages of a stream. `error`: what the deltas raised, after which the stream is closed without `end`.

    It is not raised to gRPC, which would log its text.
    """

    def __init__(self, start: pb.StreamStart) -> None:
        self._start = pb.StreamModerateRequest(start=start)
        self._text = Deltas()  # protobuf takes no half of a surrogate pair
        self.error: Exception | None = None

    def of(self, deltas: Iterable[str | bytes]) -> Iterator[pb.StreamModerateRequest]:
        yield self._start
        try:
            for delta in deltas:
                yield self._message(delta)
        except Exception as error:  # noqa: BLE001 - raised by the client's method
            self.error = error
            return
        yield from self._end()

    async def of_async(self, deltas: AsyncIterable[str | bytes]) -> AsyncIterator[pb.StreamModerateRequest]:
        yield self._start
        try:
            async for delta in deltas:
                yield self._message(delta)
        except Exception as error:  # noqa: BLE001 - raised by the client's method
            self.error = error
            return
        for message in self._end():
            yield message

    def _message(self, delta: str | bytes) -> pb.StreamModerateRequest:
        return pb.StreamModerateRequest(text=self._text.push(delta))

    def _end(self) -> Iterator[pb.StreamModerateRequest]:
        if rest := self._text.end():
            yield pb.StreamModerateRequest(text=rest)
        yield pb.StreamModerateRequest(end=pb.StreamEnd())
