"""The OpenAPI document of the wire formats, made of their table."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from guard.errors import DISTRIBUTION
from guard.serve.http.translator import Format

_ERRORS = {
    "400": "The request cannot be judged; the message says why.",
    "404": "Unknown model or policy; the message names those that exist.",
    "413": "More than the service's limits allow.",
    "429": "The queue is full; try again after Retry-After seconds.",
    "503": "The service is shutting down.",
    "504": "No verdict before the deadline.",
}


def document(formats: Sequence[Format[Any]]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for each in formats:
        schema = each.body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[each.body.__name__] = schema
        paths[each.path] = {"post": _operation(each)}
    for path, summary in (
        ("/healthz", "Whether the process answers"),
        ("/readyz", "Whether new requests are accepted (503 otherwise)"),
        ("/metrics", "Metrics in the text format of Prometheus"),
    ):
        paths[path] = {"get": {"summary": summary, "responses": {"200": {"description": "Yes."}}}}
    info = {
        "title": "guard",
        "version": version(DISTRIBUTION),
        "description": "Verdicts of a safety guard and rewards, in the wire formats of the clients that ask for them.",
    }
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _operation(translator: Format[Any]) -> dict[str, Any]:
    name = translator.body.__name__
    answers: dict[str, Any] = {code: {"description": text} for code, text in _ERRORS.items()}
    answers["200"] = {"description": "Judged.", "content": {"application/json": {"schema": translator.response}}}
    return {
        "summary": translator.summary,
        "operationId": name.removesuffix("Body"),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
        },
        "responses": dict(sorted(answers.items())),
    }
