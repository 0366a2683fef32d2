"""The Helm chart: its values are checked, and what Helm makes of them is valid for Kubernetes and for guard.

Helm's own code renders it (helm-python-sdk); where that is missing, only the tests of the schema run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from guard.serve.config import Settings, settings
from tests.deploy import helm_schema

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "guard"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
FULL = {
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {
        "hardened": True,
        "unread_bytes": 33554432,
        "monitor": {"mlcommons": ["S6"]},
        "limits": {"request_seconds": 90.5},
    },
    "apiKeys": {"existingSecret": "guard-keys"},
    "tls": {"existingSecret": "guard-tls"},
    "autoscaling": {"enabled": True, "cpuPercent": 80},
    "networkPolicy": {"egress": [{"ports": [{"port": 4317}]}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "keySecret": {"name": "k", "key": "key"}},
    "podLabels": {"team": "safety"},
    "podAnnotations": {"a": "b"},
    "env": [{"name": "OTEL_SERVICE_NAME", "value": "guard"}],
    "volumes": [{"name": "bundles", "persistentVolumeClaim": {"claimName": "bundles", "readOnly": True}}],
    "volumeMounts": [{"name": "bundles", "mountPath": "/models", "readOnly": True}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "guard", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}
INVALID = [
    ({"settings": {"request_second": 5}}, "request_second"),
    ({"settings": {"mode": "lenient"}}, "mode"),
    ({"settings": {"port": 50052}}, "port"),  # the chart's own
    ({"settings": {"limits": {"queue_windows": 0}}}, "queue_windows"),
    ({"replicas": "2"}, "replicas"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"tls": {"existingSecret": "Not_A_Name"}}, "existingSecret"),
    ({"autoscaling": {"queueDepth": 0}}, "queueDepth"),
    ({"podDisruptionBudget": {"maxUnavailable": "some"}}, "maxUnavailable"),
    ({"service": {"type": "ExternalName"}}, "type"),
    ({"ressources": {}}, "ressources"),
]


def test_the_schema_is_that_of_the_settings() -> None:
    assert (CHART / "values.schema.json").read_text() == helm_schema.text(), "stale: python -m tests.deploy.helm_schema"


def test_the_schema_takes_the_defaults_and_every_value_has_one() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)
    jsonschema.validate(FULL, SCHEMA)
    assert SCHEMA["properties"].keys() - {"global"} == VALUES.keys()


def test_the_example_of_the_page_is_valid() -> None:
    page = (CHART.parents[2] / "docs" / "deploy.md").read_text()
    (example,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "values.yaml" in block]
    values = yaml.safe_load(example)
    pytest.importorskip("jsonschema").validate(values, SCHEMA)
    assert rendered(values)["Deployment demo-guard"]["spec"]["template"]["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": 4, "memory": "1Gi"},
        "limits": {"memory": "2Gi"},
    }


@pytest.mark.parametrize(("values", "where"), INVALID, ids=lambda each: each if isinstance(each, str) else "")
def test_the_schema_refuses_mistakes(values: dict[str, Any], where: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    errors = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(values))
    assert any(where in f"{error.json_path} {error.message}" for error in errors), [error.message for error in errors]


def rendered(values: dict[str, Any], name: str = "demo") -> dict[str, dict[str, Any]]:
    """The objects that Helm makes of the values, by kind and name."""
    helm = pytest.importorskip("helm_python")
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name=name, namespace="prod")
    documents = [
        each for path, text in texts.items() if path.endswith(".yaml") for each in yaml.safe_load_all(text) if each
    ]
    return {f"{each['kind']} {each['metadata']['name']}": each for each in documents}


@pytest.mark.parametrize("values", [{}, FULL], ids=["defaults", "everything"])
def test_kubernetes_takes_what_helm_makes(values: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    objects = rendered(values)
    for each in objects.values():
        if each["kind"] != "ServiceMonitor":  # a custom resource
            validate.validate(each, "1.30", strict=True)
    kinds = ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service", "ServiceAccount"]
    more = ["HorizontalPodAutoscaler", "ServiceMonitor"] if values else []
    assert sorted(each["kind"] for each in objects.values()) == sorted(kinds + more)


def test_helm_itself_lints_the_chart_and_refuses_mistakes() -> None:
    helm = pytest.importorskip("helm_python")
    findings = helm.lint(str(CHART))
    assert findings["errors"] in (None, [])
    with helm.Chart.load(str(CHART)) as chart:
        for values, where in INVALID:
            with pytest.raises(helm.HelmError, match=where):
                chart.render(values, name="demo", namespace="prod")
        with pytest.raises(helm.HelmError, match="set queueDepth, cpuPercent or both"):
            chart.render({"autoscaling": {"enabled": True, "queueDepth": None}}, name="demo", namespace="prod")


def test_guard_takes_the_rendered_settings(tmp_path: Path) -> None:
    text = rendered({"settings": {"unread_bytes": 33554432, "monitor": {"mlcommons": ["S6"]}}})["ConfigMap demo-guard"]
    file = tmp_path / "serve.yaml"
    file.write_text(text["data"]["serve.yaml"])
    command = [sys.executable, "-m", "guard", "serve", "--config", str(file), "--check-config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{file}: valid\n"), done.stderr
    served = settings(file, [])
    assert (served.port, served.rest_port, served.metrics_port) == (50051, 8080, 9090)
    assert served.unread_bytes == 33554432


def test_keys_and_certificates_are_where_the_settings_look_for_them(tmp_path: Path) -> None:
    objects = rendered(FULL)
    file = tmp_path / "serve.yaml"
    file.write_text(objects["ConfigMap demo-guard"]["data"]["serve.yaml"])
    served = settings(file, [])
    pod = objects["Deployment demo-guard"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    secrets = {each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each}
    assert served.api_keys is not None
    assert served.tls.certificate is not None
    keys, tls = secrets[mounted[str(served.api_keys.parent)]], secrets[mounted[str(served.tls.certificate.parent)]]
    assert (keys["secretName"], keys["items"]) == ("guard-keys", [{"key": "keys.yaml", "path": served.api_keys.name}])
    assert tls["secretName"] == "guard-tls"
    assert "env" not in container or not any("KEY" in each["name"] for each in container["env"])


@pytest.mark.parametrize("values", [{}, FULL], ids=["defaults", "everything"])
def test_a_pod_has_no_rights_and_the_time_to_answer(values: dict[str, Any]) -> None:
    objects = rendered(values)
    pod = objects["Deployment demo-guard"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert not pod["enableServiceLinks"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    served = yaml.safe_load(objects["ConfigMap demo-guard"]["data"]["serve.yaml"])
    seconds = served.get("limits", {}).get("request_seconds", Settings().limits.request_seconds)
    assert pod["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"] + seconds
    assert served["lame_duck_seconds"] < seconds  # it runs beside them
    scheme = "HTTPS" if values else "HTTP"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["scheme"] == scheme
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"grpc": served["port"], "http": served["rest_port"], "operations": served["metrics_port"]}
    selector = objects["Service demo-guard"]["spec"]["selector"].items()
    assert selector <= objects["Deployment demo-guard"]["spec"]["template"]["metadata"]["labels"].items()


def test_what_scales_it_is_a_metric_of_a_real_scrape(scraped: set[str]) -> None:
    metrics = rendered({"autoscaling": {"enabled": True}})["HorizontalPodAutoscaler demo-guard"]["spec"]["metrics"]
    assert [metric["pods"]["metric"]["name"] for metric in metrics] == ["guard_queue_depth"]
    assert "guard_queue_depth" in scraped
    assert "replicas" not in rendered({"autoscaling": {"enabled": True}})["Deployment demo-guard"]["spec"]


def test_probes_ask_what_the_service_answers(operations: str) -> None:
    pod = rendered({})["Deployment demo-guard"]["spec"]["template"]["spec"]
    paths = {pod["containers"][0][probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    assert paths == {"/healthz", "/readyz"}
    assert [httpx.get(f"{operations}{path}", trust_env=False).status_code for path in paths] == [200, 200]
