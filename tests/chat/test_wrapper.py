"""OpenAI's own clients, wrapped: sync, async and streams, with a guard in this process and behind a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import openai
import pytest

from guard import AsyncGuardClient, GuardClient, Moderator
from guard.chat import AsyncGuarded, ChatOptions, Guarded, guarded
from guard.chat.options import OnError
from guard.engines.fake import FakeEngine
from guard.errors import ConfigError, EngineError, GuardError, InvalidInput, ServiceError
from guard.moderator import Guard
from guard.policy import load
from guard.stream import Release, StreamOptions
from tests.chat.test_proxy import BAD, HELLO, IMAGE, REFUSAL, UNJUDGED, arguments, reasons, text
from tests.fixtures.served import BrokenEngine, Process
from tests.fixtures.upstream import CALL, HARM, SAFE, SENTENCE, UNSAFE, Upstream
from tests.serve.test_language import GERMAN, English

OBSERVE = ChatOptions(stream=StreamOptions("observe"))


def moderator(engine: FakeEngine | None = None) -> Moderator:
    return Moderator(engine or FakeEngine(), load("mlcommons"))


@contextmanager
def wrapped(upstream: Upstream, guard: Guard | None = None, options: ChatOptions | None = None) -> Iterator[Guarded]:
    with httpx.Client(trust_env=False, timeout=20) as http:
        client = openai.OpenAI(base_url=upstream.url, api_key="sk", max_retries=0, http_client=http)
        made = guarded(client, guard or moderator(), options)
        assert isinstance(made, Guarded)
        yield made


@asynccontextmanager
async def wrapped_async(
    upstream: Upstream, guard: Any = None, options: ChatOptions | None = None
) -> AsyncIterator[AsyncGuarded]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        client = openai.AsyncOpenAI(base_url=upstream.url, api_key="sk", max_retries=0, http_client=http)
        made = guarded(client, guard or moderator(), options)
        assert isinstance(made, AsyncGuarded)
        yield made


def test_completions(upstream: Upstream) -> None:
    with wrapped(upstream) as client:
        safe = client.chat.completions.create(model="safe", messages=HELLO)
        unsafe = client.chat.completions.create(model="unsafe", messages=HELLO)
        call = client.chat.completions.create(model="call", messages=HELLO)
        assert len(upstream.bodies) == 3
        blocked = client.chat.completions.create(model="safe", messages=BAD)
        unjudged = client.chat.completions.create(model="safe", messages=IMAGE)
    assert isinstance(safe, openai.types.chat.ChatCompletion)
    assert (safe.choices[0].message.content, safe.usage and safe.usage.total_tokens) == (SAFE, 8)
    assert (unsafe.choices[0].message.content, unsafe.choices[0].finish_reason) == (REFUSAL, "content_filter")
    assert call.choices[0].message.tool_calls[0].function.arguments == CALL["arguments"]
    assert blocked.choices[0].message.content == REFUSAL
    assert blocked.moderation.input.results[0].flagged is True
    assert unjudged.choices[0].message.content == UNJUDGED
    assert len(upstream.bodies) == 3


def test_streams(upstream: Upstream) -> None:
    with wrapped(upstream) as client:

        def streamed(model: str, messages: Any = HELLO, **more: Any) -> list[Any]:
            return list(client.chat.completions.create(model=model, messages=messages, stream=True, **more))

        safe = streamed("safe", stream_options={"include_usage": True})
        unsafe = streamed("unsafe", moderation={"model": "guard"})
        calls = streamed("call")
        blocked = streamed("safe", BAD)
        endless = streamed("endless")
    assert isinstance(safe[0], openai.types.chat.ChatCompletionChunk)
    assert (text(safe), reasons(safe), safe[-1].usage.total_tokens) == (SAFE, ["stop"], 8)
    assert (text(unsafe), reasons(unsafe)) == (f"{SENTENCE}\n\n{REFUSAL}", ["content_filter"])
    assert unsafe[-1].moderation.output.results[0].flagged is True
    assert (text(calls), arguments(calls), reasons(calls)) == (SENTENCE, CALL["arguments"], ["tool_calls"])
    assert (text(blocked), reasons(blocked)) == (REFUSAL, ["content_filter"])
    assert HARM not in text(endless)
    assert upstream.broken_off.wait(10)


async def test_asynchronously(upstream: Upstream) -> None:
    async with wrapped_async(upstream) as client:

        async def streamed(model: str, messages: Any = HELLO) -> list[Any]:
            stream = await client.chat.completions.create(model=model, messages=messages, stream=True)
            return [chunk async for chunk in stream]

        safe = await client.chat.completions.create(model="safe", messages=HELLO)
        assert (safe.choices[0].message.content, text(await streamed("safe"))) == (SAFE, SAFE)
        unsafe = await client.chat.completions.create(model="unsafe", messages=HELLO)
        assert unsafe.choices[0].finish_reason == "content_filter"
        chunks = await streamed("unsafe")
        assert (text(chunks), reasons(chunks)) == (f"{SENTENCE}\n\n{REFUSAL}", ["content_filter"])
        sent = len(upstream.bodies)
        assert text(await streamed("safe", BAD)) == REFUSAL
        assert (await client.chat.completions.create(model="safe", messages=BAD)).choices[0].finish_reason == (
            "content_filter"
        )
        assert len(upstream.bodies) == sent


async def test_observing(upstream: Upstream) -> None:
    async with wrapped_async(upstream, moderator(BrokenEngine()), OBSERVE) as client:
        stream = await client.chat.completions.create(model="breaks", messages=BAD, stream=True)
        assert "breaks score" in text([chunk async for chunk in stream])
    with wrapped(upstream, options=OBSERVE) as client:
        completion = client.chat.completions.create(model="unsafe", messages=BAD)
        assert completion.choices[0].message.content == UNSAFE
        assert completion.moderation.output.results[0].flagged is True
        assert text(list(client.chat.completions.create(model="unsafe", messages=BAD, stream=True))) == UNSAFE


def test_failures_are_raised_and_those_of_the_upstream_pass(upstream: Upstream) -> None:
    with wrapped(upstream, moderator(BrokenEngine())) as client:
        with pytest.raises(EngineError, match="internal error"):
            client.chat.completions.create(model="breaks", messages=HELLO)
        stream = client.chat.completions.create(model="breaks", messages=HELLO, stream=True)
        assert next(stream).choices[0].delta.role == "assistant"
        assert next(stream).choices[0].delta.content == SENTENCE
        with pytest.raises(EngineError, match="internal error"):
            next(stream)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="limited", messages=HELLO)
        with pytest.raises(InvalidInput, match="`messages` must be a list"):
            client.chat.completions.create(model="safe")
        with pytest.raises(AttributeError):
            client.responses  # type: ignore[attr-defined] # noqa: B018 - it would not be moderated


async def test_a_service_behind_both(upstream: Upstream, process: Process) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "Hi."}, *HELLO]
    with GuardClient(process.address) as guard, wrapped(upstream, guard) as client:
        assert client.chat.completions.create(model="safe", messages=messages).choices[0].message.content == SAFE
        assert text(list(client.chat.completions.create(model="safe", messages=BAD, stream=True))) == REFUSAL
    async with AsyncGuardClient(process.address) as guard, wrapped_async(upstream, guard) as made:
        completion = await made.chat.completions.create(model="short-unsafe", messages=messages)
        assert completion.choices[0].message.content == REFUSAL
    async with AsyncGuardClient("127.0.0.1:9", timeout_s=0.5) as guard, wrapped_async(upstream, guard) as made:
        with pytest.raises(GuardError):
            await made.chat.completions.create(model="safe", messages=HELLO)


@pytest.mark.parametrize("release", ["hold", "observe"])
@pytest.mark.parametrize("on_error", ["raise", "block", "allow", None])
@pytest.mark.asyncio(loop_scope="module")
async def test_while_the_guard_is_down(
    upstream: Upstream, down: GuardClient, down_async: AsyncGuardClient, release: Release, on_error: OnError | None
) -> None:
    options = ChatOptions(stream=StreamOptions(release), on_error=on_error)
    rule = on_error or {"hold": "raise", "observe": "allow"}[release]
    expected = {"block": options.unjudged, "allow": SAFE}.get(rule)
    with wrapped(upstream, down, options) as client:
        if rule == "raise":
            for stream in (False, True):
                with pytest.raises(ServiceError, match="cannot be reached"):
                    client.chat.completions.create(model="safe", messages=HELLO, stream=stream)
            assert upstream.bodies == []
        else:
            completion = client.chat.completions.create(model="safe", messages=HELLO)
            chunks = list(client.chat.completions.create(model="safe", messages=HELLO, stream=True))
            assert completion.choices[0].message.content == text(chunks) == expected
            assert bool(client.fail_open.counts["prompt", "ServiceError"]) is (rule == "allow")
    async with wrapped_async(upstream, down_async, options) as made:
        if rule == "raise":
            with pytest.raises(ServiceError, match="cannot be reached"):
                await made.chat.completions.create(model="safe", messages=HELLO)
        else:
            completion = await made.chat.completions.create(model="safe", messages=HELLO)
            stream = await made.chat.completions.create(model="safe", messages=HELLO, stream=True)
            assert completion.choices[0].message.content == text([each async for each in stream]) == expected


def test_a_guard_that_goes_down_while_a_reply_comes(upstream: Upstream) -> None:
    """What its client raises, whatever it is, is met by the same rule, and no chunk is lost."""

    class Going(Moderator):
        def moderate_each(self, *arguments: Any, **options: Any) -> Any:
            if upstream.bodies:
                raise RuntimeError("kumquat")
            return super().moderate_each(*arguments, **options)

    for on_error, expected in (("allow", SAFE), ("block", UNJUDGED)):
        for release in ("hold", "observe"):
            upstream.bodies.clear()
            options = ChatOptions(stream=StreamOptions(release), on_error=on_error)
            with wrapped(upstream, Going(FakeEngine(), load("mlcommons")), options) as client:
                chunks = list(client.chat.completions.create(model="safe", messages=HELLO, stream=True))
            assert text(chunks).endswith(expected)
            assert reasons(chunks) == [{"allow": "stop", "block": "content_filter"}[on_error]]
            assert bool(client.fail_open.counts["reply", "InternalError"]) is (on_error == "allow")
    upstream.bodies.clear()
    with (
        wrapped(upstream, Going(FakeEngine(), load("mlcommons"))) as client,
        pytest.raises(EngineError, match="internal error") as problem,
    ):
        list(client.chat.completions.create(model="safe", messages=HELLO, stream=True))
    assert "kumquat" not in str(problem.value)


def test_observed_chunks_are_those_of_the_client(upstream: Upstream) -> None:
    with wrapped(upstream, options=OBSERVE) as client:
        chunks = list(client.chat.completions.create(model="reasons", messages=HELLO, stream=True))
        assert "reasoning_content" in f"{chunks}"
        odd = list(
            client.chat.completions.create(model="safe", messages=[{"role": "kumquat", "content": "x"}], stream=True)
        )
        assert text(odd) == SAFE
        assert client.fail_open.counts == {("prompt", "InvalidInput"): 1}


async def test_a_language_that_the_model_does_not_know(upstream: Upstream) -> None:
    german = [{"role": "user", "content": GERMAN}]
    for rule, expected in (("incomplete", UNJUDGED), ("judge", GERMAN)):
        options = ChatOptions(unsupported_language=rule)
        with wrapped(upstream, moderator(English()), options) as client:
            assert (
                client.chat.completions.create(model="german", messages=german).choices[0].message.content == expected
            )
            assert client.chat.completions.create(model="german", messages=HELLO).choices[0].message.content == expected
        async with wrapped_async(upstream, moderator(English()), options) as made:
            completion = await made.chat.completions.create(model="german", messages=HELLO)
            assert completion.choices[0].message.content == expected


def test_the_extra_body_is_judged_as_well(upstream: Upstream) -> None:
    with wrapped(upstream) as client:
        bad = {"documents": [{"text": "it violates:S1 now"}]}
        made = client.chat.completions.create(model="safe", messages=HELLO, extra_body=bad, timeout=20.0)
        assert made.choices[0].finish_reason == "content_filter"
        with pytest.raises(InvalidInput, match="`chat_template` holds text that is not judged"):
            client.chat.completions.create(model="safe", messages=HELLO, extra_body={"chat_template": "{{ x }}"})
        assert upstream.bodies == []
        headers = {"x-own": "some text"}
        client.chat.completions.create(model="safe", messages=HELLO, extra_body={"top_k": 5}, extra_headers=headers)
    assert upstream.bodies[0]["top_k"] == 5


@pytest.mark.parametrize("given", [{"on_error": "ignore"}, {"unsupported_language": "pass"}])
def test_options_that_are_none(given: Any) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        ChatOptions(**given)


def test_an_answer_of_openai_may_be_a_message_of_the_next_request(upstream: Upstream) -> None:
    with wrapped(upstream) as client:
        first = client.chat.completions.create(model="call", messages=HELLO)
        result = {"role": "tool", "tool_call_id": "call_0", "content": "sent"}
        messages = [*HELLO, first.choices[0].message, result]
        second = client.chat.completions.create(model="safe", messages=messages, temperature=openai.NOT_GIVEN)
    assert second.choices[0].message.content == SAFE
