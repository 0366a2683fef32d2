"""The HTTP listener: how its connections are set up."""

from __future__ import annotations

import socket
from typing import Any

import httpx
from starlette.types import Receive, Scope, Send

from guard.serve.http.listener import listening


async def test_the_body_of_a_response_does_not_wait_until_its_head_is_acknowledged() -> None:
    options: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        cycle: Any = send.__self__  # type: ignore[attr-defined]  # uvicorn's, which has the connection
        connection = cycle.transport.get_extra_info("socket")
        options.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    bounds = {"connections": 10, "head_seconds": 10.0, "drain_seconds": 1.0}
    async with (
        listening(app, "127.0.0.1", 0, option="--port", **bounds) as listener,  # type: ignore[arg-type]
        httpx.AsyncClient(trust_env=False) as client,
    ):
        await client.get(f"http://127.0.0.1:{listener.port}")
    assert options == [1]
