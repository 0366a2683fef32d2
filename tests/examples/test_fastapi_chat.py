"""The example of a chat endpoint runs as its docstring says."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.examples.conftest import EXAMPLES, environment
from tests.fixtures.upstream import HARM, SENTENCE, Upstream

EXAMPLE = EXAMPLES / "fastapi_chat"


@contextmanager
def running(upstream: Upstream, model: str, tmp_path: Path) -> Iterator[httpx.Client]:
    variables = environment(OPENAI_BASE_URL=upstream.url, CHAT_MODEL=model)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLE), "main:app", "--port", str(port)]
    with (tmp_path / "stderr").open("w") as errors, subprocess.Popen(command, env=variables, stderr=errors) as popen:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
                while not _answers(client):
                    assert popen.poll() is None, (tmp_path / "stderr").read_text()
                    time.sleep(0.05)
                yield client
        finally:
            popen.kill()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/openapi.json").status_code == 200
    except httpx.TransportError:
        return False


def answer(client: httpx.Client, text: str) -> tuple[str, dict[str, str]]:
    """The text that was shown, and the last line."""
    response = client.post("/chat", json={"messages": [{"role": "user", "content": text}]})
    lines = [json.loads(line) for line in response.text.splitlines()]
    return "".join(line.get("text", "") for line in lines), lines[-1]


def test_the_chat_endpoint(upstream: Upstream, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    with running(upstream, "unsafe", tmp_path) as client:
        shown, last = answer(client, "hello there")
        assert shown.startswith(SENTENCE)
        assert HARM not in shown
        assert last == {"finish_reason": "content_filter"}
        sent = len(upstream.bodies)
        shown, last = answer(client, "it violates:S1 now")
        assert (shown, last) == ("Let's talk about something else.", {"finish_reason": "content_filter"})
        assert len(upstream.bodies) == sent
        assert client.post("/chat", json={"messages": []}).json() == {"error": "InvalidInput"}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "told"), [("limited", "RateLimitError"), ("fails-inside", "APIError")])
def test_a_model_that_fails_is_no_answer(upstream: Upstream, tmp_path: Path, model: str, told: str) -> None:
    pytest.importorskip("fastapi")
    with running(upstream, model, tmp_path) as client:
        shown, last = answer(client, "hello there")
    assert (shown, last) == ("", {"error": told})
