"""The logic of both clients (sans-IO): generators that yield calls and pauses, and return values."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message as Proto

from guard.calibration import Mode
from guard.conversation import Conversation
from guard.errors import GuardError, Overloaded, PolicyError, ServiceError, TooLarge
from guard.policy import Policy
from guard.serve.client.kept import KeptVerdicts
from guard.serve.core.info import ServiceInfo
from guard.serve.grpc import messages
from guard.serve.limits import BYTES_PER_TOKEN, Limits
from guard.v1 import moderation_pb2 as pb
from guard.verdict import Verdict

CHUNK_BYTES = 256 << 10  # of one BatchModerate call: large enough to be cheap, small enough to be answered in seconds
TIMEOUT_S = 60.0  # the default time limit of a server's requests
_LEAST_PAUSE_S = 0.05
T = TypeVar("T")
Answer = TypeVar("Answer", bound=Verdict | GuardError)


class Call(NamedTuple):
    """A call, answered with its response, or with the GuardError of a failure (`status.from_rpc`)."""

    method: str
    request: Proto
    timeout_s: float


class Pause(NamedTuple):
    seconds: float


Steps = Generator[Call | Pause, Any, T]


class Session:
    """The calls of one client. policy, mode: defaults of the calls; None: the server's own. keep: how many verdicts.

    Raises ConfigError for an unknown mode.
    """

    def __init__(self, policy: Policy | str | None, mode: Mode | None, timeout_s: float, keep: int = 0) -> None:
        self.policy, self.mode, self.timeout_s = policy, mode, timeout_s
        self._kept = KeptVerdicts(keep)
        self._own = messages.options_to_proto(policy, (), mode)
        self._known: ServiceInfo | None = None

    def info(self) -> Steps[ServiceInfo]:
        """What the server judges by under this client's options; requested once, and again when verdicts tell of
        another model."""
        if self._known is None:
            response = yield Call("GetInfo", pb.GetInfoRequest(options=self._own), self.timeout_s)
            self._known = messages.info_from_proto(response)
        return self._known

    def moderate(
        self, conversation: Conversation, policy: Policy | str | None, exclude: Collection[str], mode: Mode | None
    ) -> Steps[Verdict]:
        options = self.options(policy, exclude, mode)
        request = pb.ModerateRequest(conversation=messages.conversation_to_proto(conversation), options=options)
        if (kept := self._kept.get(request.conversation, options)) is not None:
            return kept
        _bounded(request, Limits() if self._known is None else self._known.limits)
        response = yield Call("Moderate", request, self.timeout_s)
        return self._seen(request.conversation, options, messages.verdict_from_proto(response.verdict))

    def moderate_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | str | None,
        exclude: Collection[str],
        mode: Mode | None,
    ) -> Steps[list[Verdict | GuardError]]:
        options = self.options(policy, exclude, mode)
        sent = [messages.conversation_to_proto(one) for one in conversations]
        kept = [self._kept.get(one, options) for one in sent]
        asked = [one for one, verdict in zip(sent, kept, strict=True) if verdict is None]
        answers = iter((yield from self._ask_each(asked, options)))
        return [next(answers) if verdict is None else verdict for verdict in kept]

    def _ask_each(
        self, conversations: Sequence[pb.Conversation], options: pb.ModerationOptions
    ) -> Steps[list[Verdict | GuardError]]:
        if not conversations:
            return []
        try:
            limits = (yield from self.info()).limits
        except ServiceError as error:
            return [error] * len(conversations)
        answers: list[Verdict | GuardError] = []
        for chunk in chunks(conversations, limits):
            answers += yield from self._chunk(chunk, options, limits)
        return answers

    def _chunk(
        self, chunk: Sequence[pb.Conversation], options: pb.ModerationOptions, limits: Limits
    ) -> Steps[list[Verdict | GuardError]]:
        """The answers of one call, or of two if the server accepts only its halves."""
        request = pb.BatchModerateRequest(conversations=chunk, options=options)
        try:
            _bounded(request, limits)
            response = yield from self._patient("BatchModerate", request)
            if len(response.items) != len(chunk):
                raise ServiceError(f"the server sent {len(response.items)} answers for {len(chunk)} conversations")
        except TooLarge as error:
            if len(chunk) == 1:
                return [error]
            half = len(chunk) // 2
            first = yield from self._chunk(chunk[:half], options, limits)
            return first + (yield from self._chunk(chunk[half:], options, limits))
        except PolicyError:
            raise  # an error of the options concerns all conversations
        except GuardError as error:
            return [error] * len(chunk)
        answers = map(messages.item_from_proto, response.items)
        return [self._seen(one, options, answer) for one, answer in zip(chunk, answers, strict=True)]

    def _seen(self, conversation: pb.Conversation, options: pb.ModerationOptions, answer: Answer) -> Answer:
        """The answer, which is kept if it is a verdict. Where it is by another model or policy than the server had
        said, that has to be asked again."""
        if not isinstance(answer, Verdict):
            return answer
        self._kept.keep(conversation, options, answer)
        if options == self._own and self._known is not None:
            known = self._known.model, self._known.policy.digest
            self._known = self._known if known == (answer.model, answer.policy) else None
        return answer

    def _patient(self, method: str, request: Proto) -> Steps[Any]:
        """The response; an overloaded server is retried after its delay, within the timeout."""
        end = time.monotonic() + self.timeout_s
        while True:
            try:
                return (yield Call(method, request, end - time.monotonic()))
            except Overloaded as error:
                # Jitter: clients that were refused together must not come back together.
                pause = max(error.retry_after_s, _LEAST_PAUSE_S) * random.uniform(1, 2)
                if time.monotonic() + pause > end:
                    raise
            yield Pause(pause)

    def options(self, policy: Policy | str | None, exclude: Collection[str], mode: Mode | None) -> pb.ModerationOptions:
        """The options of a call, where it has none of its own those of this client."""
        return messages.options_to_proto(policy or self.policy, exclude, mode or self.mode)


def chunks(conversations: Iterable[pb.Conversation], limits: Limits) -> Iterator[list[pb.Conversation]]:
    """The conversations in order, cut so that a chunk of several takes no more than half of the server's queue."""
    most = max(1, min(limits.batch_conversations, limits.queue_windows // 2))
    most_bytes = min(CHUNK_BYTES, limits.request_bytes // 2, limits.queue_tokens * BYTES_PER_TOKEN // 2)
    chunk: list[pb.Conversation] = []
    total = 0
    for conversation in conversations:
        size = conversation.ByteSize()
        if chunk and (total + size > most_bytes or len(chunk) == most):
            yield chunk
            chunk, total = [], 0
        chunk.append(conversation)
        total += size
    if chunk:
        yield chunk


def _bounded(request: Proto, limits: Limits) -> None:
    if (size := request.ByteSize()) > limits.request_bytes:
        raise TooLarge(f"the request has {size} bytes, must be <= {limits.request_bytes}; split it")
