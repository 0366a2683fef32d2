"""The logic of both clients (sans-IO): generators that yield calls and pauses, and return values."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message as Proto

from guard.calibration import Mode
from guard.conversation import Conversation
from guard.errors import DeadlineExceeded, GuardError, Overloaded, PolicyError, ServiceError, TooLarge
from guard.policy import Policy
from guard.reward.score import Comparison
from guard.serve.client.kept import KeptVerdicts
from guard.serve.core.candidate import Candidate, CandidateReward
from guard.serve.core.info import ServiceInfo
from guard.serve.grpc import messages, reward_messages
from guard.serve.limits import BYTES_PER_TOKEN, Limits
from guard.v1 import moderation_pb2 as pb
from guard.v1 import reward_pb2
from guard.verdict import Verdict

CHUNK_BYTES = 256 << 10  # of one BatchModerate call: large enough to be cheap, small enough to be answered in seconds
TIMEOUT_S = 60.0  # the default time limit of a server's requests
_LEAST_PAUSE_S = 0.05
T = TypeVar("T")
Answer = TypeVar("Answer", bound=Verdict | GuardError)
Item = TypeVar("Item", bound=Proto)


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
        _bounded(request, self._limits)
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
            items = yield from self._chunk(
                chunk, lambda part: pb.BatchModerateRequest(conversations=part, options=options), limits
            )
            for one, item in zip(chunk, items, strict=True):
                answer = item if isinstance(item, GuardError) else messages.item_from_proto(item)
                answers.append(self._seen(one, options, answer))
        return answers

    def score(
        self,
        candidate: Candidate,
        components: Sequence[str],
        policy: Policy | str | None,
        exclude: Collection[str],
        mode: Mode | None,
    ) -> Steps[CandidateReward]:
        options = reward_messages.options_to_proto(components, self.options(policy, exclude, mode))
        request = reward_pb2.ScoreRequest(candidate=reward_messages.candidate_to_proto(candidate), options=options)
        _bounded(request, self._limits)
        response = yield Call("Score", request, self.timeout_s)
        return reward_messages.reward_from_proto(response.reward)

    def score_each(
        self,
        candidates: Sequence[Candidate],
        components: Sequence[str],
        policy: Policy | str | None,
        exclude: Collection[str],
        mode: Mode | None,
    ) -> Steps[list[CandidateReward | GuardError]]:
        options = reward_messages.options_to_proto(components, self.options(policy, exclude, mode))
        if not candidates:
            return []
        try:
            limits = (yield from self.info()).limits
        except ServiceError as error:
            return [error] * len(candidates)
        rewards: list[CandidateReward | GuardError] = []
        for chunk in chunks(map(reward_messages.candidate_to_proto, candidates), limits):
            for item in (
                yield from self._chunk(
                    chunk, lambda part: reward_pb2.BatchScoreRequest(candidates=part, options=options), limits
                )
            ):
                rewards.append(item if isinstance(item, GuardError) else reward_messages.item_from_proto(item))
        return rewards

    def compare(
        self,
        first: Candidate,
        second: str,
        component: str | None,
        policy: Policy | str | None,
        exclude: Collection[str],
        mode: Mode | None,
    ) -> Steps[Comparison]:
        request = reward_messages.compare_to_proto(first, second, component, self.options(policy, exclude, mode))
        _bounded(request, self._limits)
        response = yield Call("Compare", request, self.timeout_s)
        return reward_messages.comparison_from_proto(response)

    @property
    def _limits(self) -> Limits:
        """Those of the server, as far as they are known."""
        return Limits() if self._known is None else self._known.limits

    def _chunk(
        self, chunk: Sequence[Any], request_of: Callable[[Sequence[Any]], Proto], limits: Limits
    ) -> Steps[list[Any]]:
        """The items of one call, or of two if the server accepts only its halves; an error stands for each item of a
        call that failed."""
        request = request_of(chunk)
        try:
            _bounded(request, limits)
            response = yield from self._patient(request.DESCRIPTOR.name.removesuffix("Request"), request)
            if len(response.items) != len(chunk):
                raise ServiceError(f"the server sent {len(response.items)} answers for a batch of {len(chunk)}")
        except TooLarge as error:
            if len(chunk) == 1:
                return [error]
            half = len(chunk) // 2
            first = yield from self._chunk(chunk[:half], request_of, limits)
            return first + (yield from self._chunk(chunk[half:], request_of, limits))
        except PolicyError:
            raise  # an error of the options concerns all
        except GuardError as error:
            return [error] * len(chunk)
        return list(response.items)

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
        refused: Overloaded | None = None
        while True:
            try:
                return (yield Call(method, request, end - time.monotonic()))
            except DeadlineExceeded as late:  # of a last try, for which hardly any time was left
                raise refused or late from None
            except Overloaded as error:
                refused = error
                # Jitter: clients that were refused together must not come back together.
                pause = max(error.retry_after_s, _LEAST_PAUSE_S) * random.uniform(1, 2)
                if time.monotonic() + pause > end:
                    raise
            yield Pause(pause)

    def options(self, policy: Policy | str | None, exclude: Collection[str], mode: Mode | None) -> pb.ModerationOptions:
        """The options of a call, where it has none of its own those of this client."""
        return messages.options_to_proto(policy or self.policy, exclude, mode or self.mode)


def chunks(items: Iterable[Item], limits: Limits) -> Iterator[list[Item]]:
    """Conversations or candidates in order, cut so that several take no more than half of the server's queue."""
    most = max(1, min(limits.batch_conversations, limits.queue_windows // 2))
    most_bytes = min(CHUNK_BYTES, limits.request_bytes // 2, limits.queue_tokens * BYTES_PER_TOKEN // 2)
    chunk: list[Item] = []
    total = 0
    for item in items:
        size = item.ByteSize()
        if chunk and (total + size > most_bytes or len(chunk) == most):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += size
    if chunk:
        yield chunk


def _bounded(request: Proto, limits: Limits) -> None:
    if (size := request.ByteSize()) > limits.request_bytes:
        raise TooLarge(f"the request has {size} bytes, must be <= {limits.request_bytes}; split it")
