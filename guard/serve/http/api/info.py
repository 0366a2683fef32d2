"""The native `POST /v1/info`: what a request with these options would be judged by, as gRPC's `GetInfo` says it."""

from __future__ import annotations

import dataclasses
from typing import Any

from guard import policy as policies
from guard.calibration import Mode
from guard.serve.core.info import ServiceInfo
from guard.serve.http.api import check
from guard.serve.http.api.check import Excluded, PolicyGiven, PolicyYaml
from guard.serve.http.translator import Body, InfoTranslator


class InfoBody(Body):
    policy: PolicyGiven = None
    policy_yaml: PolicyYaml = None
    exclude: Excluded
    mode: Mode | None = None


def reply(info: ServiceInfo, names: tuple[str, ...]) -> dict[str, Any]:
    policy = info.policy
    return {
        "version": info.version,
        "model": info.model,
        "kind": info.kind,
        "mode": info.mode,
        "policy": {
            "id": policy.id,
            "version": policy.version,
            "name": policy.name,
            "digest": policy.digest,
            "categories": [
                {"code": each.code, "name": each.name, "definition": each.definition} for each in policy.categories
            ],
            "yaml": policies.dump(policy),
        },
        "thresholds": {
            target.value: {"unsafe": round(unsafe, 6), "categories": {code: round(p, 6) for code, p in each.items()}}
            for target, (unsafe, each) in info.thresholds.items()
        },
        "limits": dataclasses.asdict(info.limits),
        "policies": list(names),
    }


_THRESHOLDS = {
    "type": "object",
    "properties": {
        "unsafe": {"type": "number"},
        "categories": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}
TRANSLATOR = InfoTranslator(
    path="/v1/info",
    summary="guard's own: the model, the policy with its thresholds, the limits, and the policies known by name",
    body=InfoBody,
    options=lambda sent: check.options(sent.policy, sent.policy_yaml, sent.exclude, sent.mode),
    reply=reply,
    error=check.error,
    response={
        "type": "object",
        "properties": {
            "version": {"type": "string", "description": "Of the guard package."},
            "model": {"type": "string"},
            "kind": {"type": "string"},
            "mode": {"type": "string"},
            "policy": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "version": {"type": "string"},
                    "name": {"type": "string"},
                    "digest": {"type": "string"},
                    "categories": {"type": "array", "items": {"type": "object"}},
                    "yaml": {"type": "string"},
                },
            },
            "thresholds": {"type": "object", "properties": {"prompt": _THRESHOLDS, "response": _THRESHOLDS}},
            "limits": {"type": "object", "additionalProperties": {"type": "number"}},
            "policies": {"type": "array", "items": {"type": "string"}},
        },
    },
    statuses={},
)
