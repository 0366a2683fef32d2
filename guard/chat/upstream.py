"""The model's server, which speaks OpenAI's API: the headers that go there and come back, and its streams."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from guard.chat.chunks import Chunk
from guard.chat.completion import UpstreamError, choices_of
from guard.chat.events import Event

# Of a caller's headers these go on; the others are for the proxy or a hop.
_FORWARDED = ("authorization", "accept-language", "user-agent", "idempotency-key")
_FORWARDED_PREFIXES = ("openai-", "x-", "api-")
_RETURNED = ("retry-after", "openai-processing-ms", "openai-version", "x-request-id")
_RETURNED_PREFIXES = ("x-ratelimit-",)
DONE = "[DONE]"


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


def chunk(event: Event) -> Chunk | None:
    """The chunk of an event; None for one that has none: a comment, or the end.

    Raises InStream for an error of the upstream's, UpstreamError for what is no chunk.
    """
    if event.problem is not None:
        raise event.problem
    if event.data is None or event.data == DONE:
        return None
    sent = parsed(event.data)
    if sent.get("error") is not None:
        raise InStream(sent)
    choices_of(sent)
    return sent


def event(sent: Chunk) -> Event:
    """The event of a chunk, or of an error."""
    return Event(b"data: " + json_bytes(sent) + b"\n\n")


END = Event(b"data: [DONE]\n\n", DONE)


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def parsed(data: str | bytes) -> dict[str, Any]:
    """The object of a JSON text. Raises UpstreamError."""
    try:
        value = json.loads(data, parse_constant=_no_json)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UpstreamError("the upstream sent something that is no JSON object")
    return value


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
