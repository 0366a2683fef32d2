"""The asyncio client of the moderation service."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Sequence

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


class AsyncGuardClient:
    """GuardClient for asyncio: the same methods, awaited, and `info()`. Create and use it in one event loop."""

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
        self._metadata = channel.metadata(api_key, priority)
        self._session = Session(policy, mode, timeout_s, keep)
        self._channel = channel.opened_async(target, tls)
        self._methods = channel.methods(self._channel)

    async def __aenter__(self) -> AsyncGuardClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close(None)

    async def info(self) -> ServiceInfo:
        """See GuardClient.info."""
        return await self._drive(self._session.info())

    async def moderate(
        self,
        conversation: Conversation,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> Verdict:
        """See GuardClient.moderate."""
        return await self._drive(self._session.moderate(conversation, policy, exclude, mode))

    async def blocks(
        self,
        conversation: Conversation,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> bool:
        """See GuardClient.blocks."""
        try:
            return is_blocked(await self.moderate(conversation, policy, exclude, mode))
        except GuardError as problem:
            return blocked_by(problem, conversation, self.on_error, self.fail_open)

    async def moderate_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        """See GuardClient.moderate_each."""
        return await self._drive(self._session.moderate_each(conversations, policy, exclude, mode))

    async def score(
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
        """See GuardClient.score."""
        candidate = Candidate.of(prompt, response, reference, refusable)
        return await self._drive(self._session.score(candidate, components, policy, exclude, mode))

    async def score_each(
        self,
        candidates: Sequence[Candidate],
        components: Sequence[str] = (),
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[CandidateReward | GuardError]:
        """See GuardClient.score_each."""
        return await self._drive(self._session.score_each(candidates, components, policy, exclude, mode))

    async def compare(
        self,
        prompt: Prompt,
        first: str,
        second: str,
        component: str | None = None,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> Comparison:
        """See GuardClient.compare."""
        candidate = Candidate.of(prompt, first)
        return await self._drive(self._session.compare(candidate, second, component, policy, exclude, mode))

    async def stream(
        self,
        deltas: AsyncIterable[str | bytes],
        context: Sequence[Message] = (),
        stream: StreamOptions | None = None,
        policy: Policy | str | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Progress, None]:
        """See GuardClient.stream. Close it (contextlib.aclosing) where it is left early."""
        start = start_to_proto(context, self._session.options(policy, exclude, mode), stream)
        outgoing = Outgoing(start)
        call = self._methods["StreamModerate"](outgoing.of_async(deltas), timeout=timeout_s, metadata=self._metadata)
        try:
            async for response in call:
                yield (progress := progress_from_proto(response))
                if progress.final or progress.stopped:
                    return
        except grpc.RpcError as error:
            raise outgoing.error or from_rpc(error, self.target, timeout_s or math.inf) from None
        finally:
            call.cancel()

    async def _drive(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                failure, response = None, None
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                else:
                    try:
                        response = await self._methods[step.method](
                            step.request, timeout=step.timeout_s, metadata=self._metadata
                        )
                    except grpc.RpcError as error:
                        failure = from_rpc(error, self.target, self.timeout_s)
                step = steps.throw(failure) if failure else steps.send(response)
        except StopIteration as end:
            value: T = end.value
            return value
