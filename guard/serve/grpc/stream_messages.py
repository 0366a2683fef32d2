"""Conversions between the messages of StreamModerate and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guard.conversation import Message
from guard.errors import ConfigError, GuardError, InvalidInput
from guard.serve.core.streams import StreamRequest
from guard.serve.grpc import messages
from guard.serve.grpc.status import from_status, to_status
from guard.stream import RELEASES, Progress, Release, StreamOptions
from guard.v1 import moderation_pb2 as pb
from guard.verdict import Verdict

_NUMBERS = {release: getattr(pb, f"RELEASE_{release.upper()}") for release in RELEASES}
_FIELDS: dict[str, Any] = {
    "characters": "check_characters",
    "seconds": "check_seconds",
    "tail": "tail_characters",
    "stop_after": "stop_after_checks",
    "sure": "sure_log_odds",
}
_RELEASES: dict[int, Release] = {number: release for release, number in _NUMBERS.items()}


def start_to_proto(
    context: Sequence[Message], options: pb.ModerationOptions, stream: StreamOptions | None
) -> pb.StreamStart:
    """stream: None for the server's own."""
    start = pb.StreamStart(context=map(messages.message_to_proto, context), options=options)
    if stream is not None:
        start.release = _NUMBERS[stream.release]
        for name, field in _FIELDS.items():
            setattr(start, field, getattr(stream, name))
    return start


def start_from_proto(sent: pb.StreamStart) -> StreamRequest:
    """Raises InvalidInput."""
    if sent.release != pb.RELEASE_UNSPECIFIED and sent.release not in _RELEASES:
        raise InvalidInput(f"release is {int(sent.release)}; allowed: {', '.join(pb.Release.keys())}")
    given: dict[str, Any] = {name: getattr(sent, field) for name, field in _FIELDS.items() if sent.HasField(field)}
    try:
        stream = StreamOptions(_RELEASES.get(sent.release, "hold"), **given)
    except ConfigError as error:
        raise InvalidInput(str(error)) from None
    context = messages.messages_from_proto(sent.context, "context")
    return StreamRequest(context, messages.options_from_proto(sent.options), stream)


def progress_to_proto(progress: Progress) -> pb.StreamModerateResponse:
    response = pb.StreamModerateResponse(
        released=progress.released,
        start_characters=progress.start,
        end_characters=progress.end,
        hold_back_characters=progress.held,
        final=progress.final,
        stopped=progress.stopped,
    )
    if isinstance(progress.answer, Verdict):
        response.verdict.CopyFrom(messages.verdict_to_proto(progress.answer))
    elif isinstance(progress.answer, GuardError):
        response.error.CopyFrom(to_status(progress.answer))
    return response


def progress_from_proto(sent: pb.StreamModerateResponse) -> Progress:
    """Raises ServiceError for a verdict that this version does not know."""
    which = sent.WhichOneof("result")
    return Progress(
        sent.released,
        from_status(sent.error) if which == "error" else messages.verdict_from_proto(sent.verdict),
        sent.start_characters,
        sent.end_characters,
        sent.hold_back_characters,
        sent.final,
        sent.stopped,
    )
