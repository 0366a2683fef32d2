"""The playground: a page to try the guard by hand, which asks the service's own HTTP endpoints from the browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
FOLDER = Path(__file__).parent
MEDIA_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing but the files beside this one, and no way from a text to markup: the texts that are pasted here are hostile.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def pages(grpc_port: int) -> Mapping[str, Handler]:
    """The page at `/`, and what it loads below `/playground/`.

    grpc_port: where the service answers gRPC, for the calls that the page shows.
    """
    files = {
        path.name: (path.read_bytes(), MEDIA_TYPES[path.suffix])
        for path in FOLDER.iterdir()
        if path.suffix in MEDIA_TYPES
    }
    files["server.json"] = json.dumps({"grpc_port": grpc_port}).encode(), "application/json"

    async def page(_: Request) -> Response:
        return _response(*files["index.html"])

    async def file(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return _response(*found)

    return {"/": page, "/playground/{name}": file}


def _response(content: bytes, media_type: str) -> Response:
    return Response(content, headers=HEADERS, media_type=media_type)
