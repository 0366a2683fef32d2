"""Wrappers of OpenAI's clients whose chat completions are moderated, by a guard in this process or by a service."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol, overload

from guard.chat import completion as completions
from guard.chat import prompt as prompts
from guard.chat.chunks import Chunk, ChunkStream
from guard.chat.gate import Gate, gate
from guard.chat.options import ChatOptions
from guard.chat.ruling import Answer
from guard.conversation import LONGEST, Conversation
from guard.moderator import Guard
from guard.serve.core.errors import public
from guard.stream import drive, drive_async


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

    What is refused is a completion with the finish reason `content_filter`. Errors of the guard are raised
    (guard.errors), where not all is shown anyway; those of OpenAI's client pass.
    """

    def __init__(self, client: Any, guard: Guard, options: ChatOptions) -> None:
        self._client, self._guard, self._options = client, guard, options

    @property
    def chat(self) -> Guarded:
        return self

    @property
    def completions(self) -> Guarded:
        return self

    def create(self, **request: Any) -> Any:
        """A completion, or with `stream=True` an iterator of chunks. A stream's checks are made when a chunk comes."""
        prompt = prompts.parse(_plain(request))
        now = gate(prompt, self._options, self._guard.info, self._judge(prompt.conversations))
        refused = now.refused
        if refused is not None:
            made = now.refusal(refused, str(request.get("model", "")))
            return _refusal_chunks(now, made) if prompt.stream else _completion(made)
        answer = self._client.chat.completions.create(**prompts.forwarded(request))
        if prompt.stream:
            return self._stream(now, answer)
        whole = _dump(answer)
        conversations = completions.replies(whole, prompt.messages)
        answers = iter(self._judge([each for each in conversations if each is not None]))
        return _completion(now.answered(whole, [None if each is None else next(answers) for each in conversations]))

    def _stream(self, now: Gate, answer: Any) -> Iterator[Any]:
        machine = ChunkStream(now.prompt.messages, now.prompt.choices, now.options, LONGEST)
        with answer:
            for chunk in drive(machine, map(_dump, answer), lambda one: self._judge([one])[0]):
                yield _chunk(chunk)
        yield from map(_chunk, _ends(now, machine))

    def _judge(self, conversations: Sequence[Conversation]) -> list[Answer]:
        try:
            return self._guard.moderate_each(conversations)
        except Exception as error:  # noqa: BLE001 - where all is shown anyway, nothing of the guard may stop it
            return [public(error)] * len(conversations)


class AsyncGuarded:
    """Guarded for AsyncOpenAI: `await create(…)`; with `stream=True` an asynchronous iterator.

    A stream's checks are made while its chunks come.
    """

    def __init__(self, client: Any, guard: Any, options: ChatOptions) -> None:
        self._client, self._guard, self._options = client, guard, options

    @property
    def chat(self) -> AsyncGuarded:
        return self

    @property
    def completions(self) -> AsyncGuarded:
        return self

    async def create(self, **request: Any) -> Any:
        """See Guarded.create."""
        prompt = prompts.parse(_plain(request))
        now = gate(prompt, self._options, await self._info(), await self._judge(prompt.conversations))
        refused = now.refused
        if refused is not None:
            made = now.refusal(refused, str(request.get("model", "")))
            return _each(_refusal_chunks(now, made)) if prompt.stream else _completion(made)
        answer = await self._client.chat.completions.create(**prompts.forwarded(request))
        if prompt.stream:
            return self._stream(now, answer)
        whole = _dump(answer)
        conversations = completions.replies(whole, prompt.messages)
        answers = iter(await self._judge([each for each in conversations if each is not None]))
        return _completion(now.answered(whole, [None if each is None else next(answers) for each in conversations]))

    async def _stream(self, now: Gate, answer: Any) -> AsyncIterator[Any]:
        machine = ChunkStream(now.prompt.messages, now.prompt.choices, now.options, LONGEST)

        async def chunks() -> AsyncIterator[Chunk]:
            async for chunk in answer:
                yield _dump(chunk)

        async def judge(conversation: Conversation) -> Answer:
            return (await self._judge([conversation]))[0]

        async with answer, aclosing(drive_async(machine, chunks(), judge)) as sent:
            async for chunk in sent:
                yield _chunk(chunk)
        for chunk in _ends(now, machine):
            yield _chunk(chunk)

    async def _info(self) -> Any:
        if inspect.iscoroutinefunction(getattr(self._guard, "info", None)):
            return await self._guard.info()
        return await asyncio.to_thread(lambda: self._guard.info)

    async def _judge(self, conversations: Sequence[Conversation]) -> list[Answer]:
        try:
            if inspect.iscoroutinefunction(self._guard.moderate_each):
                answers: list[Answer] = await self._guard.moderate_each(conversations)
                return answers
            return await asyncio.to_thread(self._guard.moderate_each, conversations)
        except Exception as error:  # noqa: BLE001 - where all is shown anyway, nothing of the guard may stop it
            return [public(error)] * len(conversations)


def _ends(now: Gate, machine: ChunkStream) -> list[Chunk]:
    last = machine.last()
    return [*last, now.chunk(machine.head, machine.answers)] if now.prompt.asked else last


def _refusal_chunks(now: Gate, made: dict[str, Any]) -> Iterator[Any]:
    chunks = completions.as_chunks(made)
    extra = [now.chunk({key: chunks[0][key] for key in ("id", "object", "created", "model")}, ())]
    return map(_chunk, [*chunks, *(extra if now.prompt.asked else [])])


async def _each(chunks: Iterator[Any]) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


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
