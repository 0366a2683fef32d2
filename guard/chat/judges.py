"""The guards that a proxy may ask: a service in its own process, or one behind an address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from guard.chat.options import ChatOptions
from guard.chat.proxy import Judge
from guard.chat.ruling import Answer
from guard.conversation import Conversation
from guard.errors import GuardError
from guard.moderator import GuardInfo, Moderator
from guard.serve.client.asynchronous import AsyncGuardClient
from guard.serve.core.errors import public
from guard.serve.core.request import Request
from guard.serve.core.service import Service
from guard.serve.limits import Limits


@asynccontextmanager
async def local(moderator: Moderator, limits: Limits, options: ChatOptions) -> AsyncIterator[Judge]:
    """A moderator of this process, behind the batcher that requests share."""
    rule = options.unsupported_language if moderator.engine.info.languages else None
    async with Service(moderator, limits, unsupported_language=rule) as service:
        most = limits.batch_conversations

        async def judge(conversations: Sequence[Conversation]) -> list[Answer]:
            answers: list[Answer] = []
            for start in range(0, len(conversations), most):
                part = tuple(conversations[start : start + most])
                try:
                    answers += await service.judge(Request(part))
                except Exception as error:  # noqa: BLE001 - what it means, the options say
                    answers += [public(error)] * len(part)
            return answers

        async def info() -> GuardInfo:
            return moderator.info

        yield Judge(judge, info, lambda: service.ready)


def remote(client: AsyncGuardClient) -> Judge:
    """A service, with the client's policy and mode."""

    async def judge(conversations: Sequence[Conversation]) -> list[Answer]:
        try:
            return await client.moderate_each(conversations)
        except Exception as error:  # noqa: BLE001 - what it means, the options say
            return [error if isinstance(error, GuardError) else public(error)] * len(conversations)

    async def info() -> GuardInfo:
        return await client.info()

    return Judge(judge, info)
