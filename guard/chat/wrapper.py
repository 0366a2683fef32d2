"""Wrappers of OpenAI's clients whose chat completions are moderated, by a guard in this process or by a service."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, overload

from guard.chat import prompt as prompts
from guard.chat.gate import Gate, gate
from guard.chat.options import ChatOptions
from guard.chat.relay import Relay
from guard.chat.ruling import Answer
from guard.conversation import LONGEST, Conversation
from guard.errors import GuardError
from guard.moderator import Guard, GuardInfo
from guard.serve.client.fail_open import FailOpen
from guard.serve.core.errors import public
from guard.serve.core.language import noting
from guard.stream import drive, drive_async
from guard.verdict import Outcome

# Arguments of OpenAI's client that are no part of the body.
_OF_THE_CLIENT = ("extra_body", "extra_headers", "extra_query", "timeout")


class AsyncGuard(Protocol):
    """An AsyncGuardClient."""

    async def info(self) -> Any: ...

    async def moderate_each(self, conversations: Sequence[Conversation]) -> list[Answer]: ...


@overload
def guarded(client: Any, guard: Guard, options: ChatOptions | None = None) -> Guarded | AsyncGuarded: ...


@overload
def guarded(client: Any, guard: AsyncGuard, options: ChatOptions | None = None) -> AsyncGuarded: ...


def guarded(client: Any, guard: Any, options: ChatOptions | None = None) -> Guarded | AsyncGuarded:
    """`client.chat.completions.create`, moderated: a Guarded for `openai.OpenAI`, an AsyncGuarded for `AsyncOpenAI`.

    guard: of `open_guard`; for AsyncOpenAI an AsyncGuardClient as well.
    """
    chosen = options or ChatOptions()
    from openai import AsyncOpenAI  # of whoever has the client

    if isinstance(client, AsyncOpenAI):
        return AsyncGuarded(client, guard, chosen)
    return Guarded(client, guard, chosen)


class Guarded:
    """`chat.completions.create` takes and returns what OpenAI's does. Nothing else of the client is here, because it
    would not be moderated.

    What is refused is a completion with the finish reason `content_filter`. What an error of the guard means, the
    options say; by default it is raised (guard.errors), where not all is shown anyway, and `fail_open` counts what
    passes because of one. Errors of OpenAI's client pass.
    """

    def __init__(self, client: Any, guard: Guard, options: ChatOptions) -> None:
        self.fail_open = FailOpen()
        self._client, self._guard, self._options = client, guard, options
        self._noted = noting(guard, options.unsupported_language)

    @property
    def chat(self) -> Guarded:
        return self

    @property
    def completions(self) -> Guarded:
        return self

    def create(self, **request: Any) -> Any:
        """A completion, or with `stream=True` an iterator of chunks. A stream's checks are made when a chunk comes."""
        now = gate(_body(request), self._options, self.fail_open)
        now = now.judged(self._judge(now.prompt.conversations), self._info())
        if (refused := now.refused) is not None:
            return _refusal(now, refused, request)
        answer = self._client.chat.completions.create(**prompts.forwarded(request))
        if now.prompt.stream:
            return self._stream(now, answer)
        whole = _dump(answer)
        conversations = now.replies(whole)
        answers = iter(self._judge([each for each in conversations if each is not None]))
        return _completion(now.answered(whole, [None if each is None else next(answers) for each in conversations]))

    def _stream(self, now: Gate, answer: Any) -> Iterator[Any]:
        machine = _relay(now)
        with answer:
            yield from drive(machine, answer, lambda one: self._judge([one])[0])
        yield from machine.last()

    def _info(self) -> GuardInfo | None:
        try:
            return self._guard.info
        except Exception:  # noqa: BLE001 - the answers say so, too, and what that means
            return None

    def _judge(self, conversations: Sequence[Conversation]) -> list[Answer]:
        try:
            answers = self._guard.moderate_each(conversations)
        except Exception as error:  # noqa: BLE001 - what it means, the options say
            return [_error(error)] * len(conversations)
        return self._noted(conversations, answers)


class AsyncGuarded:
    """Guarded for AsyncOpenAI: `await create(…)`; with `stream=True` an asynchronous iterator.

    A stream's checks are made while its chunks come.
    """

    def __init__(self, client: Any, guard: Any, options: ChatOptions) -> None:
        self.fail_open = FailOpen()
        self._client, self._guard, self._options = client, guard, options
        self._noted = noting(guard, options.unsupported_language)

    @property
    def chat(self) -> AsyncGuarded:
        return self

    @property
    def completions(self) -> AsyncGuarded:
        return self

    async def create(self, **request: Any) -> Any:
        """See Guarded.create."""
        now = gate(_body(request), self._options, self.fail_open)
        now = now.judged(await self._judge(now.prompt.conversations), await self._info())
        if (refused := now.refused) is not None:
            made = _refusal(now, refused, request)
            return _each(made) if now.prompt.stream else made
        answer = await self._client.chat.completions.create(**prompts.forwarded(request))
        if now.prompt.stream:
            return self._stream(now, answer)
        whole = _dump(answer)
        conversations = now.replies(whole)
        answers = iter(await self._judge([each for each in conversations if each is not None]))
        return _completion(now.answered(whole, [None if each is None else next(answers) for each in conversations]))

    async def _stream(self, now: Gate, answer: Any) -> AsyncIterator[Any]:
        machine = _relay(now)

        async def judge(conversation: Conversation) -> Answer:
            return (await self._judge([conversation]))[0]

        async with answer, aclosing(drive_async(machine, aiter(answer), judge)) as sent:
            async for chunk in sent:
                yield chunk
        for chunk in machine.last():
            yield chunk

    async def _info(self) -> GuardInfo | None:
        try:
            if inspect.iscoroutinefunction(getattr(type(self._guard), "info", None)):
                said: GuardInfo = await self._guard.info()
                return said
            return await asyncio.to_thread(lambda: self._guard.info)
        except Exception:  # noqa: BLE001 - the answers say so, too, and what that means
            return None

    async def _judge(self, conversations: Sequence[Conversation]) -> list[Answer]:
        try:
            if inspect.iscoroutinefunction(self._guard.moderate_each):
                answers: list[Answer] = await self._guard.moderate_each(conversations)
                return answers
            answers = await asyncio.to_thread(self._guard.moderate_each, conversations)
            return await asyncio.to_thread(self._noted, conversations, answers)
        except Exception as error:  # noqa: BLE001 - what it means, the options say
            return [_error(error)] * len(conversations)


def _error(problem: Exception) -> GuardError:
    """The guard's own error as it is; the text of any other may repeat that of the conversation."""
    return problem if isinstance(problem, GuardError) else public(problem)


def _relay(now: Gate) -> Relay[Any]:
    return Relay(now, LONGEST, _dump, _chunk)


def _refusal(now: Gate, outcome: Outcome, request: Mapping[str, Any]) -> Any:
    model = str(request.get("model", ""))
    if now.prompt.stream:
        return map(_chunk, now.refusal_chunks(outcome, model))
    return _completion(now.refusal(outcome, model))


async def _each(chunks: Iterator[Any]) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


def _body(request: Mapping[str, Any]) -> dict[str, Any]:
    """The body that OpenAI's client sends for these arguments."""
    plain = _plain({key: value for key, value in request.items() if key not in _OF_THE_CLIENT})
    extra = request.get("extra_body")
    return {**plain, **_plain(dict(extra))} if isinstance(extra, Mapping) else plain


def _plain(request: Any) -> Any:
    """The request with OpenAI's own objects as dicts."""
    if hasattr(request, "model_dump"):
        return _dump(request)
    if isinstance(request, dict):
        return {key: _plain(value) for key, value in request.items() if not _omitted(value)}
    if isinstance(request, list | tuple):
        return [_plain(each) for each in request]
    return request


def _omitted(value: object) -> bool:
    return type(value).__name__ in ("NotGiven", "Omit")


def _dump(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(mode="json", exclude_unset=True)
    return dumped


def _completion(made: dict[str, Any]) -> Any:
    from openai.types.chat import ChatCompletion

    return ChatCompletion.construct(**made)


def _chunk(made: dict[str, Any]) -> Any:
    from openai.types.chat import ChatCompletionChunk

    return ChatCompletionChunk.construct(**made)
