"""The service: one moderator for many callers. It bounds, reserves, tokenizes, batches and concludes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib.metadata import version
from operator import attrgetter
from typing import Self, TypeVar

from guard.batcher import Batcher, Bounds
from guard.conversation import Conversation
from guard.data.ingest.language import identify
from guard.errors import DISTRIBUTION, DeadlineExceeded, EngineDown, GuardError, InvalidInput, Overloaded, TooLarge
from guard.moderator import Moderator
from guard.moderator.steps import Scored, advance, run_async
from guard.policy import Policy
from guard.prompts.window import Score, Window
from guard.serve.core.audit import AuditLog
from guard.serve.core.disclosure import Scores, disclosed
from guard.serve.core.errors import public, publicly
from guard.serve.core.info import ServiceInfo
from guard.serve.core.language import UnsupportedLanguage, noted
from guard.serve.core.observer import Load, Observer
from guard.serve.core.origin import ORIGIN
from guard.serve.core.policies import Policies
from guard.serve.core.quota import CALLER
from guard.serve.core.request import Options, Request
from guard.serve.limits import BYTES_PER_TOKEN, Limits, oversize
from guard.verdict import Verdict

INLINE_BYTES = 2048  # shorter requests are tokenized on the event loop: a thread switch would cost as much

Answer = Verdict | GuardError
Judged = list[Verdict | Exception]
T = TypeVar("T")


class Service:
    """Answers requests with a moderator's verdicts. Use as `async with`: leaving it drains the accepted requests.

    Every error that it raises or answers with is safe for callers (core.errors); only the cancellation of the caller's
    own task passes unchanged.
    """

    def __init__(
        self,
        moderator: Moderator,
        limits: Limits,
        observer: Observer | None = None,
        scores: Scores = "exact",
        unsupported_language: UnsupportedLanguage | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        """scores: how exact they are in answers. unsupported_language: None where languages are not identified."""
        self._audit = audit
        engine = moderator.engine
        bounds = Bounds(limits.queue_windows, limits.queue_tokens, batch_tokens=engine.info.batch_tokens)
        self.moderator, self.limits, self.observer = moderator, limits, observer or Observer()
        self.scores, self._unsupported_language = scores, unsupported_language
        self.batcher: Batcher[Window, Score] = Batcher(
            engine.score, engine.cost, bounds, self.observer.batch, attrgetter("key"), engine.info.parallel_calls
        )
        self._policies = Policies(moderator.policy, limits)
        # Off the event loop and off the engine's thread: long texts, and policies of requests. A policy that takes
        # long to prepare delays only requests with policies of their own.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="guard-tokenizer")
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="guard-policies")
        # Not behind long texts that are tokenized: the verdicts on short ones wait for it.
        self._identifying = ThreadPoolExecutor(1, thread_name_prefix="guard-languages")

    async def __aenter__(self) -> Self:
        await self._run(self._preparing, self.moderator.engine.warm)
        if self._unsupported_language is not None:
            await self._run(self._identifying, identify, "warm")
        await self.batcher.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()
        self._tokenizing.shutdown(wait=False)
        self._preparing.shutdown(wait=False)
        self._identifying.shutdown(wait=False)

    async def drain(self) -> None:
        """Refuses new requests, and returns when the accepted ones are answered."""
        await self.batcher.close()

    @property
    def ready(self) -> bool:
        """Whether new requests are accepted, as far as the queue has room: not while its engine is started again."""
        return self.batcher.open and self.moderator.engine.ready

    @property
    def load(self) -> Load:
        return Load(self.batcher.items, self.batcher.tokens, self.ready)

    async def stopped(self) -> None:
        """Returns when it has stopped answering, drained or failed."""
        await self.batcher.stopped()

    async def info(self, options: Options) -> ServiceInfo:
        """What it judges by under these options. Raises InvalidInput or PolicyError."""
        return await publicly(self._info(options))

    @property
    def policy_names(self) -> tuple[str, ...]:
        """The names of the policies that requests may name, its own first."""
        return self._policies.names

    async def policies(self) -> list[tuple[str, Policy]]:
        """The policies that requests may name, with their names, its own first."""
        return [(name, await self.policy(Options(name))) for name in self.policy_names]

    async def policy(self, options: Options) -> Policy:
        """The policy of these options. Raises InvalidInput, PolicyError, or UnknownPolicy."""
        if options == Options():
            return self.moderator.policy
        return await publicly(self._run(self._preparing, self._policies.of, options))

    async def judge(self, request: Request) -> list[Answer]:
        """A verdict or error for each conversation, in order, with scores as exact as callers may know them.

        Errors that concern all conversations are raised: InvalidInput, PolicyError, Overloaded, Closed,
        DeadlineExceeded or InternalError.
        """
        return list(map(self.disclosed, await self.judge_exactly(request)))

    def disclosed(self, answer: Answer) -> Answer:
        """The answer with scores as exact as callers may know them."""
        return disclosed(answer, self.scores) if isinstance(answer, Verdict) else answer

    async def judge_exactly(self, request: Request) -> list[Answer]:
        """As `judge`, with exact scores, for what decides by them in this process."""
        try:
            if (caller := CALLER.get()) is not None:
                caller.spend(len(request.conversations))
            answers = await publicly(self._judge(request))
        except GuardError as error:
            self.observer.refused(type(error).__name__)
            if not isinstance(error, Overloaded):  # a flood must not push lines of verdicts out of the log
                await self._log(request, [error] * len(request.conversations))
            raise
        except asyncio.CancelledError:
            self.observer.cancelled()
            raise
        for answer in answers:
            if isinstance(answer, Verdict):
                self.observer.judged(answer)
        await self._log(request, answers)
        return answers

    async def _log(self, request: Request, answers: Sequence[Answer]) -> None:
        if self._audit is not None:
            await publicly(self._audit.judged(request, answers))

    async def _info(self, options: Options) -> ServiceInfo:
        policy = await self._run(self._preparing, self._policies.of, options)
        mode = options.mode or self.moderator.mode
        info = self.moderator.info_of(policy, mode)
        return ServiceInfo(info.model, info.kind, policy, mode, info.thresholds, version(DISTRIBUTION), self.limits)

    async def _judge(self, request: Request) -> list[Answer]:
        if not self.moderator.engine.ready:
            raise EngineDown
        allowed = min(self.limits.request_seconds, request.seconds)
        deadline = asyncio.get_running_loop().time() + allowed
        if len(request.conversations) > self.limits.batch_conversations:
            raise TooLarge(
                f"the batch has {len(request.conversations)} conversations, must be <= "
                f"{self.limits.batch_conversations}"
            )
        bounded = [
            one if isinstance(one, InvalidInput) else oversize(one, self.limits) or one for one in request.conversations
        ]
        sound = [one for one in bounded if isinstance(one, Conversation)]
        try:
            async with asyncio.timeout_at(deadline):
                judged = iter(await self._judge_all(sound, request.options, deadline) if sound else [])
        except TimeoutError:
            raise DeadlineExceeded("no verdict before the deadline; allow more time") from None
        return [_answer(next(judged)) if isinstance(one, Conversation) else one for one in bounded]

    async def _judge_all(self, conversations: Sequence[Conversation], options: Options, deadline: float) -> Judged:
        size = sum(len(message.content.encode()) for one in conversations for message in one.messages)
        with self.batcher.reserve(len(conversations), size // BYTES_PER_TOKEN, ORIGIN.get().flow) as slot:

            async def ask(windows: Sequence[Window]) -> list[Scored]:
                answers = await slot.answer(windows, deadline)
                return [Scored(one.answer, one.queue_ms, one.work_ms) for one in answers]

            policy = await self._policy(options)
            steps = self.moderator.judge_each(conversations, policy, mode=options.mode)
            if size < INLINE_BYTES:
                request = advance(steps)
            else:
                request = await self._run(self._tokenizing, advance, steps)
            if self._unsupported_language is None:
                return await run_async(steps, request, ask)
            # While the engine works, and within the same deadline.
            identifying = asyncio.ensure_future(self._run(self._identifying, _identified, conversations))
            try:
                judged = await run_async(steps, request, ask)
                return list(map(self._noted, conversations, judged, await identifying))
            finally:
                identifying.cancel()

    def _noted(self, one: Conversation, judged: Verdict | Exception, found: tuple[str, float]) -> Verdict | Exception:
        if self._unsupported_language is None or not isinstance(judged, Verdict):
            return judged
        languages = self.moderator.engine.info.languages
        return noted(judged, one.judged.content, found, languages, self._unsupported_language)

    async def _policy(self, options: Options) -> Policy:
        """The policy of the options, prepared by the engine."""
        if options.policy is None and not options.exclude:
            return self.moderator.policy
        return await self._run(self._preparing, self._prepared, options)

    def _prepared(self, options: Options) -> Policy:
        policy = self._policies.of(options)
        self.moderator.engine.prepare(policy)
        return policy

    async def _run(self, executor: Executor, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work, *arguments)


def _identified(conversations: Sequence[Conversation]) -> list[tuple[str, float]]:
    return [identify(one.judged.content) for one in conversations]


def _answer(judged: Verdict | Exception) -> Answer:
    return judged if isinstance(judged, Verdict) else public(judged)
