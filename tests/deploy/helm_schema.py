"""The schema of the chart's values: `python -m tests.deploy.helm_schema` writes deploy/helm/guard/values.schema.json.

`settings` is made from the service's own settings, without those that the chart sets, so that a mistake is found
before anything is installed. Of Kubernetes' own objects (affinity, volumes, …) only the kind is said; the API server
checks them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from guard.serve.config import Settings

FILE = Path(__file__).parents[2] / "deploy" / "helm" / "guard" / "values.schema.json"
OF_THE_CHART = ("host", "port", "rest_port", "metrics_port", "tls", "api_keys")

TEXT, FLAG, OBJECT = {"type": "string"}, {"type": "boolean"}, {"type": "object"}
OBJECTS = {"type": "array", "items": OBJECT}
TEXTS = {"type": "object", "additionalProperties": TEXT}
COUNT = {"type": "integer", "minimum": 1}
NAME = {"type": "string", "pattern": r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", "maxLength": 253}  # "": none


def closed(**properties: Any) -> dict[str, Any]:
    """An object of these keys alone."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def optional(kind: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [kind, {"type": "null"}]}


def plain(schema: Any) -> Any:
    """Without titles, descriptions and defaults, which are the service's and change with its words."""
    if isinstance(schema, list):
        return [plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = ("title", "description", "default", "format")
    kept = {key: value for key, value in schema.items() if key not in dropped or isinstance(value, dict)}
    return {key: plain(value) for key, value in kept.items()}


def schema() -> dict[str, Any]:
    settings = plain(TypeAdapter(Settings).json_schema(ref_template="#/$defs/{model}"))
    definitions = {name: of for name, of in settings.pop("$defs").items() if name != "TlsFiles"}
    for name in OF_THE_CHART:
        del settings["properties"][name]
    quantity = {"anyOf": [{"type": "string"}, {"type": "number", "exclusiveMinimum": 0}]}
    amounts = {"type": "object", "additionalProperties": quantity}
    values = closed(
        **{"global": OBJECT},  # Helm adds it where the chart is a dependency of another
        image=closed(
            repository={"type": "string", "minLength": 1},
            tag=TEXT,
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        ),
        imagePullSecrets=OBJECTS,
        settings={"$ref": "#/$defs/Settings"},
        rest=closed(enabled=FLAG),
        apiKeys=closed(existingSecret=NAME, key={"type": "string", "minLength": 1}),
        tls=closed(existingSecret=NAME),
        replicas={"type": "integer", "minimum": 0},
        autoscaling=closed(
            enabled=FLAG, minReplicas=COUNT, maxReplicas=COUNT, queueDepth=optional(COUNT), cpuPercent=optional(COUNT)
        ),
        podDisruptionBudget=closed(
            enabled=FLAG,
            maxUnavailable={
                "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{1,3}%$"}]
            },
        ),
        topologySpread=FLAG,
        resources=closed(requests=amounts, limits=amounts),
        preStopSeconds={"type": "integer", "minimum": 0},
        startupSeconds=COUNT,
        service=closed(type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, annotations=TEXTS),
        networkPolicy=closed(enabled=FLAG, clients=OBJECTS, prometheus=OBJECTS, egress=OBJECTS),
        serviceMonitor=closed(
            enabled=FLAG,
            interval={"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
            labels=TEXTS,
            keySecret=closed(name=NAME, key=TEXT),
        ),
        podLabels=TEXTS,
        podAnnotations=TEXTS,
        env=OBJECTS,
        volumes=OBJECTS,
        volumeMounts=OBJECTS,
        nodeSelector=TEXTS,
        tolerations=OBJECTS,
        affinity=OBJECT,
    )
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**draft, **values, "$defs": {**definitions, "Settings": settings}}


def text() -> str:
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
