"""The blocking client of the moderation service."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import grpc

from guard.calibration import Mode
from guard.conversation import Conversation, Message
from guard.errors import GuardError
from guard.policy import Policy
from guard.reward.score import Comparison
from guard.reward.scorer import Prompt
from guard.serve.client import channel
from guard.serve.client.fail_open import FailOpen, OnError, blocked_by, check_on_error, is_blocked
from guard.serve.client.session import TIMEOUT_S, Pause, Session, Steps, T
from guard.serve.client.streaming import Outgoing
from guard.serve.client.tls import Tls
from guard.serve.core.candidate import Candidate, CandidateReward
from guard.serve.core.info import ServiceInfo
from guard.serve.core.origin import Priority
from guard.serve.grpc.status import from_rpc
from guard.serve.grpc.stream_messages import progress_from_proto, start_to_proto
from guard.stream import Progress, StreamOptions
from guard.verdict import Verdict


class GuardClient:
    """The guard of the server at `target` (host:port). Thread-safe. Use it as a context manager or `close` it.

    policy, mode: defaults of the calls; None: the server's own. timeout_s: for one call with its retries: up to two
    where the server cannot be reached or is shutting down, and those of `moderate_each` under overload.
    api_key: None for that of the environment variable GUARD_API_KEY, if there is one. Without TLS it is in the clear.
    tls: None for that of the environment variables GUARD_TLS_CA, GUARD_TLS_CERTIFICATE and GUARD_TLS_KEY, if any is.
    on_error: what `blocks` does without a verdict: `block`, `allow` (counted in `fail_open`, and logged) or `raise`.
    keep: how many verdicts are kept for five minutes, so that equal conversations are not sent again; 0: none.
    priority: `batch` for work that nobody waits for: it gets an eighth of what interactive calls get beside it.
    Proxies of the environment are used, except for this machine itself (`channel.options`). It may be used after a fork
    and sent to other processes (pickled with its key), where it has a connection of its own.
    """

    def __init__(
        self,
        target: str,
        timeout_s: float = TIMEOUT_S,
        *,
        policy: Policy | str | None = None,
        mode: Mode | None = None,
        api_key: str | None = None,
        tls: Tls | None = None,
        priority: Priority = "interactive",
        on_error: OnError = "block",
        keep: int = 0,
    ) -> None:
        check_on_error(on_error)
        self.target, self.timeout_s, self.on_error = target, timeout_s, on_error
        self.fail_open = FailOpen()
        self._given: dict[str, Any] = {
            "policy": policy,
            "mode": mode,
            "api_key": api_key,
            "tls": tls,
            "priority": priority,
        }
        self._given |= {"on_error": on_error, "keep": keep}
        self._metadata = channel.metadata(api_key, priority)
        self._session = Session(policy, mode, timeout_s, keep)
        self._tls = tls
        self._connect()

    def _connect(self) -> None:
        self._channel = channel.opened(self.target, self._tls)
        self._connected = channel.methods(self._channel)
        self._process = os.getpid()

    @property
    def _methods(self) -> Mapping[str, Any]:
        """Those of a connection of this process: a fork has its parent's, of which it can make no use."""
        if self._process != os.getpid():
            self._connect()
        return self._connected

    def __reduce__(self) -> tuple[Callable[..., GuardClient], tuple[str, float]]:
        return partial(GuardClient, **self._given), (self.target, self.timeout_s)

    def __enter__(self) -> GuardClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    @property
    def info(self) -> ServiceInfo:
        """What the server judges by under this client's policy and mode, and its limits. Requested once.

        Raises ServiceError, or PolicyError if it has no such policy.
        """
        return self._drive(self._session.info())

    def moderate(
        self,
        conversation: Conversation,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> Verdict:
        """The verdict on the last message of the conversation.

        policy: one that the server knows by name, or a value to send along. Raises the server's InvalidInput,
        PolicyError, Overloaded, Closed or EngineError, and ServiceError if it cannot be reached or does not answer in
        time.
        """
        return self._drive(self._session.moderate(conversation, policy, exclude, mode))

    def blocks(
        self,
        conversation: Conversation,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> bool:
        """Whether the last message must be blocked: unless a verdict says SAFE, or `on_error` lets it pass without one.

        Raises PolicyError or ConfigError for invalid options, and with `on_error="raise"` what `moderate` raises.
        """
        try:
            return is_blocked(self.moderate(conversation, policy, exclude, mode))
        except GuardError as problem:
            return blocked_by(problem, conversation, self.on_error, self.fail_open)

    def moderate_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        """For each conversation, in order, its verdict or the error that `moderate` would have raised.

        They are sent in consecutive calls, cut by the server's limits; a failed call fails the conversations in it,
        and one that is refused because the queue is full is retried within the timeout.
        Raises PolicyError or ConfigError for invalid options.
        """
        return self._drive(self._session.moderate_each(conversations, policy, exclude, mode))

    def score(
        self,
        prompt: Prompt,
        response: str,
        reference: str | None = None,
        refusable: bool = False,
        components: Sequence[str] = (),
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> CandidateReward:
        """The reward of an answer, by the server's guard and reward models.

        reference: an answer to beat, which reward models that only compare need. refusable: refusing is right, so that
        `not_refusal` does not apply. components: those to compute; none: all. policy, exclude, mode: of the guard.
        Raises as `moderate` does where the answer cannot be judged.
        """
        candidate = Candidate.of(prompt, response, reference, refusable)
        return self._drive(self._session.score(candidate, components, policy, exclude, mode))

    def score_each(
        self,
        candidates: Sequence[Candidate],
        components: Sequence[str] = (),
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[CandidateReward | GuardError]:
        """For each candidate, in order, its reward; one that cannot be judged has an `error` and the lowest reward.

        They are sent as `moderate_each` sends conversations, and so a failed call is the error of the candidates in
        it. Raises PolicyError or ConfigError for invalid options.
        """
        return self._drive(self._session.score_each(candidates, components, policy, exclude, mode))

    def compare(
        self,
        prompt: Prompt,
        first: str,
        second: str,
        component: str | None = None,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> Comparison:
        """Which of two answers is better: `p` is the probability that the first one is.

        component: `safe`, or a reward model of the server's; None: its first reward model, or `safe` if it has none.
        Raises as `moderate` does.
        """
        candidate = Candidate.of(prompt, first)
        return self._drive(self._session.compare(candidate, second, component, policy, exclude, mode))

    def stream(
        self,
        deltas: Iterable[str | bytes],
        context: Sequence[Message] = (),
        stream: StreamOptions | None = None,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
        timeout_s: float | None = None,
    ) -> Generator[Progress, None, None]:
        """What the server's checks of a reply to `context` bring while its deltas come; see guard.stream.Progress.

        Show what is `released`; with the release `observe` nothing is, because all is shown as it comes. The last
        one is `final`, with the verdict on the whole, or `stopped`. The deltas are taken in a thread of gRPC's.
        stream: None for the server's own. timeout_s: of the whole stream; None: as long as the server allows.
        Raises as `moderate` does, and what the deltas raise; what was not released until then is not to be shown.
        """
        start = start_to_proto(context, self._session.options(policy, exclude, mode), stream)
        outgoing = Outgoing(start)
        call = self._methods["StreamModerate"](outgoing.of(deltas), timeout=timeout_s, metadata=self._metadata)
        try:
            for response in call:
                yield (progress := progress_from_proto(response))
                if progress.final or progress.stopped:
                    return
        except grpc.RpcError as error:
            raise outgoing.error or from_rpc(error, self.target, timeout_s or math.inf) from None
        finally:
            call.cancel()

    def _drive(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                failure, response = None, None
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                else:
                    try:
                        response = self._methods[step.method](
                            step.request, timeout=step.timeout_s, metadata=self._metadata
                        )
                    except grpc.RpcError as error:
                        failure = from_rpc(error, self.target, self.timeout_s)
                step = steps.throw(failure) if failure else steps.send(response)
        except StopIteration as end:
            value: T = end.value
            return value
