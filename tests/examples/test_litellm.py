"""examples/litellm: LiteLLM's proxy with its own settings, and its guardrails by themselves."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.examples.conftest import EXAMPLES, environment, python_with
from tests.fixtures.served import PATIENCE_S, Process
from tests.fixtures.upstream import SAFE, Upstream

pytestmark = pytest.mark.slow
KEY = f"sk-{'0123456789abcdef' * 4}"


@contextmanager
def litellm(guard: str, upstream: Upstream, folder: Path) -> Iterator[httpx.Client]:
    """A client of LiteLLM's proxy with the settings of the example, before the guard at this URL."""
    command = Path(python_with("litellm.proxy", "fastapi", "apscheduler")).with_name("litellm")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    servers = {"GUARD_URL": guard, "GUARD_OPENAI_URL": f"{guard}/v1", "CHAT_URL": upstream.url}
    variables = environment(**servers, GUARD_API_KEY="none", CHAT_API_KEY="sk", LITELLM_MASTER_KEY=KEY)
    config = ["--config", EXAMPLES / "litellm" / "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        popen = subprocess.Popen([command, *config], cwd=folder, env=variables, stdout=log, stderr=log)
    try:
        headers, url = {"authorization": f"Bearer {KEY}"}, f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
            deadline = time.monotonic() + 10 * PATIENCE_S  # it imports for long
            while not _ready(client):
                assert popen.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
            yield client
    finally:
        popen.kill()
        popen.wait()


@pytest.fixture(scope="module")
def proxy(process: Process, running: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with litellm(process.url, running, tmp_path_factory.mktemp("litellm")) as proxy:
        yield proxy


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/liveliness").status_code == 200
    except httpx.TransportError:
        return False


def ask(proxy: httpx.Client, model: str, text: str, **more: object) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return proxy.post("/v1/chat/completions", json=body)


def test_prompts_and_replies_are_judged(proxy: httpx.Client, upstream: Upstream) -> None:
    assert ask(proxy, "safe", "hello there").json()["choices"][0]["message"]["content"] == SAFE
    reply = ask(proxy, "short-unsafe", "hello there")
    assert (reply.status_code, "response is unsafe: S3" in reply.text) == (400, True), reply.text
    sent = len(upstream.bodies)
    prompt = ask(proxy, "safe", "it violates:S10 now")
    assert (prompt.status_code, "prompt is unsafe: S10 Hate" in prompt.text) == (400, True), prompt.text
    named = ask(proxy, "safe", "it violates:S4 now", guardrails=["guard-moderations"])
    assert named.status_code == 400
    assert len(upstream.bodies) == sent


def test_a_stream_is_held_until_it_is_judged(proxy: httpx.Client, upstream: Upstream) -> None:
    assert SAFE[:20] in "".join(_contents(ask(proxy, "safe", "hello there", stream=True)))
    stopped = ask(proxy, "unsafe", "hello there", stream=True)
    assert _contents(stopped) == []
    assert "response is unsafe: S1" in stopped.text


def test_without_a_guard_nothing_is_answered(upstream: Upstream, tmp_path: Path) -> None:
    with litellm("http://127.0.0.1:9", upstream, tmp_path) as proxy:
        answer = ask(proxy, "safe", "hello there")
    assert answer.status_code == 500, answer.text
    assert upstream.bodies == []


def test_guardrails_by_themselves(process: Process) -> None:
    """Tool calls, images and rules in words, which the proxy of the example is not asked about."""
    command = [
        python_with("litellm.proxy", "fastapi"),
        str(Path(__file__).with_name("litellm_guardrails.py")),
        process.url,
    ]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("decision_model: ok\n")


def _contents(response: httpx.Response) -> list[str]:
    """What the deltas of a stream show."""
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in json.loads(event).get("choices", [])]
    return [text for choice in choices if (text := choice["delta"].get("content"))]
