"""The model's server, which speaks OpenAI's API: the headers that go there and come back, and its streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from guard.chat.chunks import Chunk
from guard.chat.completion import UpstreamError

# Of a caller's headers these go on; the others are for the proxy or a hop.
_FORWARDED = ("authorization", "accept-language", "user-agent", "idempotency-key")
_FORWARDED_PREFIXES = ("openai-", "x-", "api-")
_RETURNED = ("retry-after", "openai-processing-ms", "openai-version", "x-request-id")
_RETURNED_PREFIXES = ("x-ratelimit-",)
LINE_BYTES = 4 << 20


class InStream(UpstreamError):
    """The upstream reported an error inside of a stream; `payload` is its own."""

    def __init__(self, payload: Any) -> None:
        super().__init__("the upstream reported an error inside of a stream")
        self.payload = payload


def request_headers(given: Mapping[str, str], api_key: str | None) -> dict[str, str]:
    """What the upstream is sent of a caller's headers. api_key: in place of the caller's."""
    sent = {
        key: value
        for key, value in given.items()
        if key.lower() in _FORWARDED
        or (key.lower().startswith(_FORWARDED_PREFIXES) and not key.lower().startswith("x-forwarded-"))
    }
    if api_key is not None:
        sent = {key: value for key, value in sent.items() if key.lower() not in ("authorization", "api-key")}
        sent["authorization"] = f"Bearer {api_key}"
    return sent


def response_headers(given: Mapping[str, str]) -> dict[str, str]:
    """What the caller gets of the upstream's headers."""
    return {
        key: value
        for key, value in given.items()
        if key.lower() in _RETURNED or key.lower().startswith(_RETURNED_PREFIXES)
    }


async def chunks(response: httpx.Response) -> AsyncIterator[Chunk]:
    """The chunks of a stream of events. Raises InStream for an error in it, UpstreamError for what is no chunk."""
    async for line in response.aiter_lines():
        if len(line) > LINE_BYTES:
            raise UpstreamError(f"the upstream sent an event of more than {LINE_BYTES} characters")
        field, _, data = line.partition(":")
        if field != "data":
            continue  # comments that keep the connection alive, names of events, and the blank lines between them
        data = data.strip()
        if data == "[DONE]":
            return
        chunk = parsed(data)
        if chunk.get("error") is not None:
            raise InStream(chunk)
        yield chunk


def parsed(data: str | bytes) -> dict[str, Any]:
    """The object of a JSON text. Raises UpstreamError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UpstreamError("the upstream sent something that is no JSON object")
    return value
