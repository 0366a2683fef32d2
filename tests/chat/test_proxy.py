"""`guard proxy` between OpenAI's own client and a chat server: what is forwarded, shown, refused, and what fails."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from guard import AsyncGuardClient, Moderator
from guard.chat.options import ChatOptions
from guard.chat.server import ProxySettings, proxying
from guard.engines.fake import FakeEngine
from guard.errors import ConfigError
from guard.policy import load
from guard.stream import StreamOptions
from tests.fixtures.served import BrokenEngine, serve
from tests.fixtures.upstream import BAD_CALL, CALL, HARM, SAFE, SENTENCE, UNSAFE, Upstream

HELLO: Any = [{"role": "user", "content": "hello there"}]
BAD: Any = [{"role": "user", "content": "it violates:S1 now"}]
IMAGE: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
OBSERVE = ChatOptions(stream=StreamOptions("observe"))
REFUSAL, UNJUDGED = ChatOptions().refusal, ChatOptions().unjudged


@asynccontextmanager
async def proxied(
    upstream: Upstream,
    options: ChatOptions | None = None,
    engine: FakeEngine | None = None,
    guard: AsyncGuardClient | None = None,
    **settings: Any,
) -> AsyncIterator[openai.AsyncOpenAI]:
    moderator = Moderator(engine or FakeEngine(), load("mlcommons"))
    chosen = ProxySettings(upstream.url, port=0, options=options or ChatOptions(), **settings)
    async with (
        proxying(guard or moderator, chosen) as url,
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-caller", max_retries=0, http_client=http) as client,
    ):
        yield client


async def whole(
    client: openai.AsyncOpenAI, model: str, messages: Any = HELLO, **more: Any
) -> tuple[Any, httpx.Headers]:
    """The completion, and the headers that it came with."""
    raw = await client.chat.completions.with_raw_response.create(model=model, messages=messages, **more)
    return raw.parse(), raw.headers


async def streamed(client: openai.AsyncOpenAI, model: str, messages: Any = HELLO, **more: Any) -> list[Any]:
    stream = await client.chat.completions.create(model=model, messages=messages, stream=True, **more)
    return [chunk async for chunk in stream]


async def failing(client: openai.AsyncOpenAI, model: str, shown: list[Any]) -> Any:
    """The error that a stream ends with, after what it showed."""
    try:
        async for chunk in await client.chat.completions.create(model=model, messages=HELLO, stream=True):
            shown.append(chunk)
    except openai.APIError as error:
        return error
    raise AssertionError("the stream did not fail")


def text(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def reasons(chunks: list[Any]) -> list[str]:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


def arguments(chunks: list[Any]) -> str:
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    return "".join(call.function.arguments or "" for call in calls)


async def test_what_is_safe_passes_both_ways(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, headers = await whole(client, "safe", temperature=0.5, moderation={"model": "guard"})
        chunks = await streamed(client, "safe", stream_options={"include_usage": True})
        listed = [model.id async for model in client.models.list()]
    assert completion.choices[0].message.content == SAFE == text(chunks)
    assert (completion.choices[0].finish_reason, reasons(chunks)) == ("stop", ["stop"])
    assert (completion.usage.total_tokens, chunks[-1].usage.total_tokens) == (8, 8)
    assert (headers["x-guard-outcome"], headers["openai-processing-ms"]) == ("passed", "5")
    assert completion.moderation.input.results[0].flagged is False
    assert completion.moderation.output.type == "moderation_results"
    assert "safe" in listed
    sent = upstream.bodies[0]
    assert (sent["temperature"], sent["messages"], "moderation" in sent) == (0.5, HELLO, False)
    assert upstream.headers[0]["authorization"] == "Bearer sk-caller"
    assert all(chunk.choices[0].logprobs is None for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unsafe_prompt_is_never_forwarded(upstream: Upstream, stream: bool) -> None:
    earlier = [*BAD, {"role": "assistant", "content": "No."}, *HELLO]
    result = [{"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": CALL}]}]
    result.append({"role": "tool", "tool_call_id": "1", "content": "the page says violates:S4"})
    async with proxied(upstream, ChatOptions(refusal="Not here.")) as client:
        for messages in (BAD, earlier, [*HELLO, *result]):
            if stream:
                chunks = await streamed(client, "safe", messages, n=2, moderation={"model": "guard"})
                assert [text(chunks, index) for index in (0, 1)] == ["Not here."] * 2
                assert reasons(chunks) == ["content_filter"] * 2
                assert chunks[-1].moderation.input.type == "moderation_results"
            else:
                completion, headers = await whole(client, "safe", messages)
                assert completion.choices[0].message.content == "Not here."
                assert completion.choices[0].finish_reason == "content_filter"
                assert any(one.flagged for one in completion.moderation.input.results)
                assert completion.moderation.output.code == "not_generated"
                assert (headers["x-guard-outcome"], headers["x-guard-side"]) == ("blocked", "prompt")
                assert headers["x-guard-categories"] in ("S1", "S4")
    assert upstream.bodies == []


async def test_an_unsafe_reply_is_not_shown(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, headers = await whole(client, "unsafe")
        chunks = await streamed(client, "unsafe", moderation={"model": "guard"})
        short = await streamed(client, "short-unsafe")
    assert completion.choices[0].message.content == REFUSAL
    assert completion.choices[0].finish_reason == "content_filter"
    assert (headers["x-guard-outcome"], headers["x-guard-side"], headers["x-guard-categories"]) == (
        "blocked",
        "reply",
        "S1",
    )
    assert completion.moderation.output.results[0].flagged is True
    assert text(chunks) == f"{SENTENCE}\n\n{REFUSAL}"
    assert reasons(chunks) == ["content_filter"]
    assert chunks[-1].moderation.output.results[0].flagged is True
    assert (text(short), reasons(short)) == (REFUSAL, ["content_filter"])


async def test_a_stopped_stream_breaks_off_the_upstream(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        chunks = await streamed(client, "endless")
        assert reasons(chunks) == ["content_filter"]
        assert HARM not in text(chunks)
        assert upstream.broken_off.wait(10)


async def test_tool_calls_are_judged_and_held_to_the_end(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        for model in ("call", "only-call"):
            completion, _ = await whole(client, model)
            chunks = await streamed(client, model)
            assert completion.choices[0].message.tool_calls[0].function.arguments == CALL["arguments"]
            assert arguments(chunks) == CALL["arguments"]
            assert reasons(chunks) == [completion.choices[0].finish_reason] == ["tool_calls"]
            assert text(chunks) == (completion.choices[0].message.content or "")
        completion, headers = await whole(client, "bad-call")
        chunks = await streamed(client, "bad-call")
    assert completion.choices[0].message.tool_calls is None
    assert headers["x-guard-categories"] == "S2"
    assert (arguments(chunks), reasons(chunks)) == ("", ["content_filter"])
    assert BAD_CALL["name"] not in text(chunks)


async def test_several_choices_are_judged_each(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, _ = await whole(client, "safe", n=3)
        chunks = await streamed(client, "safe", n=3)
        stopped = await streamed(client, "unsafe", n=2)
    assert [one.message.content for one in completion.choices] == [SAFE] * 3
    assert [text(chunks, index) for index in range(3)] == [SAFE] * 3
    assert reasons(stopped) == ["content_filter"] * 2
    assert not any(HARM in text(stopped, index) for index in range(2))


async def test_fields_that_are_not_judged_do_not_pass(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, _ = await whole(client, "reasons")
        chunks = await streamed(client, "reasons")
    assert completion.choices[0].message.content == text(chunks) == SAFE
    assert "violates" not in f"{completion} {chunks}"


async def test_an_empty_reply_passes(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, _ = await whole(client, "empty")
        chunks = await streamed(client, "empty")
    assert (completion.choices[0].message.content, text(chunks)) == ("", "")
    assert reasons(chunks) == ["stop"]


async def test_observing_forwards_and_shows_everything(upstream: Upstream) -> None:
    broken = BrokenEngine()
    async with proxied(upstream, OBSERVE, broken) as client:
        completion, headers = await whole(client, "unsafe", BAD)
        chunks = await streamed(client, "reasons", BAD, moderation={"model": "guard"})
        assert (await whole(client, "breaks"))[0].choices[0].message.content
        assert "breaks score" in text(await streamed(client, "breaks"))
        assert (await whole(client, "safe", IMAGE))[0].choices[0].message.content == SAFE
        asked = {"model": "guard", "policy": {"input": {"mode": "block"}}}
        blocked, _ = await whole(client, "safe", BAD, moderation=asked)
    assert completion.choices[0].message.content == UNSAFE
    assert headers["x-guard-outcome"] == "observed"
    assert headers["x-guard-categories"] == "S1"
    assert text(chunks) == SAFE
    assert "reasoning_content" in f"{chunks}"
    assert chunks[-1].moderation.input.results[0].flagged is True
    assert blocked.choices[0].finish_reason == "content_filter"


async def test_what_cannot_be_judged_is_told_apart_from_what_is_unsafe(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        completion, headers = await whole(client, "safe", IMAGE)
    assert completion.choices[0].message.content == UNJUDGED
    assert (headers["x-guard-outcome"], completion.moderation.input.code) == ("unjudged", "incomplete")
    assert upstream.bodies == []


async def test_a_guard_that_fails_is_an_error_and_shows_nothing(upstream: Upstream) -> None:
    async with proxied(upstream, engine=BrokenEngine()) as client:
        with pytest.raises(openai.InternalServerError) as prompt:
            await whole(client, "safe", [{"role": "user", "content": "breaks score"}])
        assert upstream.bodies == []
        with pytest.raises(openai.InternalServerError) as reply:
            await whole(client, "breaks")
        shown: list[Any] = []
        inside = await failing(client, "breaks", shown)
    for problem, side in ((prompt.value, "prompt"), (reply.value, "reply")):
        assert (problem.status_code, problem.code) == (503, "moderation_failed")
        assert problem.response.headers["x-guard-outcome"] == "failed"
        assert problem.response.headers["x-guard-side"] == side
    assert inside.code == "moderation_failed"
    assert text(shown) == SENTENCE


async def test_errors_of_the_upstream_pass_with_their_status(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as limited:
                await client.chat.completions.create(model="limited", messages=HELLO, stream=stream)
            assert limited.value.body["message"] == "slow down"  # type: ignore[index]
            assert limited.value.response.headers["retry-after"] == "7"
            assert limited.value.response.headers["x-ratelimit-limit-requests"] == "1"
            assert "x-guard-outcome" not in limited.value.response.headers
        with pytest.raises(openai.APIError, match="the model fell over"):
            await streamed(client, "fails-inside")
        with pytest.raises(openai.APIError, match="no JSON object"):
            await streamed(client, "no-chunks")
        with pytest.raises(openai.InternalServerError, match="no JSON object") as nonsense:
            await whole(client, "nonsense")
    assert nonsense.value.status_code == 502


async def test_an_upstream_that_is_not_there() -> None:
    async with proxied(Upstream("http://127.0.0.1:9/v1")) as client:
        with pytest.raises(openai.InternalServerError, match="cannot be reached") as gone:
            await whole(client, "safe")
        with pytest.raises(openai.InternalServerError, match="cannot be reached"):
            await client.models.list()
    assert (gone.value.status_code, gone.value.code) == (502, "upstream_failed")


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 400, "not valid JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"\xff", 400, "not UTF-8"),
        (b'{"model": "safe", "model": "safe"}', 400, "repeats a key"),
        (b'{"model": "safe"}', 400, "`messages` must be a list"),
        (b'{"messages": []}', 400, "messages is empty"),
        (b'{"messages": [{"role": "user", "content": " "}]}', 400, "message is empty"),
        (b'{"messages": [{"role": "kumquat", "content": "x"}]}', 400, "unknown message role"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": true}', 400, "n must be"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stream": 1}', 400, "stream must be"),
        (b'{"messages": [{"role": "user", "content": "x"}], "moderation": 1}', 400, "moderation must be"),
        (b" " * (5 << 20), 413, "larger than"),
    ],
)
async def test_requests_that_are_none(upstream: Upstream, body: bytes, status: int, told: str) -> None:
    async with proxied(upstream) as client:
        response = await client._client.post(f"{client.base_url}chat/completions", content=body)
    assert (response.status_code, told in response.json()["error"]["message"]) == (status, True)
    assert "kumquat" not in response.text
    assert upstream.bodies == []


async def test_nothing_else_of_the_upstream_is_here(upstream: Upstream) -> None:
    async with proxied(upstream) as client:
        for path in ("completions", "responses", "embeddings"):
            response = await client._client.post(f"{client.base_url}{path}", json={"input": "x"})
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
        root = str(client.base_url).removesuffix("v1/")
        assert [(await client._client.get(f"{root}{path}")).status_code for path in ("healthz", "readyz")] == [200] * 2


async def test_a_service_judges_and_a_key_of_its_own_goes_upstream(upstream: Upstream) -> None:
    async with serve() as served, proxied(upstream, guard=served.client, api_key="sk-own") as client:
        assert (await whole(client, "safe"))[0].choices[0].message.content == SAFE
        assert (await whole(client, "unsafe"))[0].choices[0].finish_reason == "content_filter"
        assert reasons(await streamed(client, "unsafe")) == ["content_filter"]
        assert upstream.headers[0]["authorization"] == "Bearer sk-own"
    before = len(upstream.bodies)
    async with AsyncGuardClient(served.running.address, timeout_s=5) as gone:
        async with proxied(upstream, guard=gone) as client:
            with pytest.raises(openai.InternalServerError) as failed:
                await whole(client, "safe")
            assert failed.value.code == "moderation_failed"
        assert len(upstream.bodies) == before
        async with proxied(upstream, OBSERVE, guard=gone) as client:
            assert (await whole(client, "safe", BAD))[0].choices[0].message.content == SAFE
            assert text(await streamed(client, "safe", BAD)) == SAFE


async def test_no_text_reaches_a_log(
    upstream: Upstream, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "guard")
    caplog.set_level(logging.DEBUG, "uvicorn")
    async with proxied(upstream, engine=BrokenEngine()) as client:
        canary = [{"role": "user", "content": "kumquat breaks score"}]
        for stream in (False, True):
            with pytest.raises(openai.APIError) as problem:
                await client.chat.completions.create(model="safe", messages=canary, stream=stream)  # type: ignore[arg-type]
            assert "kumquat" not in problem.value.response.text  # type: ignore[attr-defined]
    logged = [one for one in caplog.records if one.name.startswith(("guard", "uvicorn"))]
    assert not any("kumquat" in one.getMessage() or one.exc_info for one in logged)
    assert "kumquat" not in "".join(capfd.readouterr())


def test_the_command(upstream: Upstream, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "guard", "proxy", "--upstream", upstream.url, "--model", "fake", "--port", "0"]
    with (tmp_path / "stderr").open("w") as errors:
        popen = subprocess.Popen([*command, "--refusal", "Nope."], stdout=subprocess.PIPE, stderr=errors, text=True)
    assert popen.stdout is not None
    with popen.stdout:
        try:
            line = popen.stdout.readline()
            assert line.startswith("guard proxy serving on http://127.0.0.1:"), (tmp_path / "stderr").read_text()
            with httpx.Client(trust_env=False, timeout=20) as http:
                client = openai.OpenAI(base_url=f"{line.split()[4]}/v1", api_key="sk", http_client=http)
                completion = client.chat.completions.create(model="unsafe", messages=HELLO)
            assert completion.choices[0].message.content == "Nope."
            popen.send_signal(signal.SIGTERM)
            assert popen.wait(20) == 0
        finally:
            popen.kill()
            popen.wait()
    assert (tmp_path / "stderr").read_text() == ""


def test_an_upstream_that_is_no_url() -> None:
    with pytest.raises(ConfigError, match="must be a URL like"):
        ProxySettings("localhost:8000")
