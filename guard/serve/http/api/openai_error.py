"""The error shape of OpenAI's API, which several other formats share."""

from __future__ import annotations

from typing import Any

from guard.errors import GuardError

_TYPES = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "insufficient_permissions"),
    404: ("invalid_request_error", "model_not_found"),
    413: ("invalid_request_error", "request_too_large"),
    422: ("invalid_request_error", "not_judged"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


def error(status: int, problem: GuardError) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`."""
    kind, code = _TYPES.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    return {"error": {"message": str(problem), "type": kind, "param": None, "code": code}}
