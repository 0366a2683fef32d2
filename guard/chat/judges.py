"""The guards that a proxy may ask: a service in its own process, or one behind an address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from guard.chat.proxy import Judge
from guard.chat.ruling import Answer
from guard.conversation import Conversation
from guard.errors import GuardError
from guard.moderator import GuardInfo, Moderator
from guard.serve.client.asynchronous import AsyncGuardClient
from guard.serve.core.request import Request
from guard.serve.core.service import Service
from guard.serve.limits import Limits


@asynccontextmanager
async def local(moderator: Moderator, limits: Limits) -> AsyncIterator[Judge]:
    """A moderator of this process, behind the batcher that requests share."""
    async with Service(moderator, limits) as service:
        most = limits.batch_conversations

        async def judge(conversations: Sequence[Conversation]) -> list[Answer]:
            answers: list[Answer] = []
            for start in range(0, len(conversations), most):
                part = tuple(conversations[start : start + most])
                try:
                    answers += await service.judge(Request(part))
                except GuardError as error:
                    answers += [error] * len(part)
            return answers

        async def info() -> GuardInfo:
            return moderator.info

        yield Judge(judge, info, lambda: service.ready)


def remote(client: AsyncGuardClient) -> Judge:
    """A service, with the client's policy and mode."""

    async def judge(conversations: Sequence[Conversation]) -> list[Answer]:
        try:
            return await client.moderate_each(conversations)
        except GuardError as error:
            return [error] * len(conversations)

    async def info() -> GuardInfo:
        return await client.info()

    return Judge(judge, info)
