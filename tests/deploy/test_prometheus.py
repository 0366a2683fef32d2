"""Prometheus and its alerts: they name metrics and labels that the service exports, and fire when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_grafana import DASHBOARD, TARGETS, expressions, labels

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    known = labels() | {"up": set()}
    used = re.findall(r"\b(guard_\w+|up)\{([^}]*)\}", rule["expr"])
    assert used
    assert len(used) == len(re.findall(r"\bguard_|\bup\b", rule["expr"]))
    for name, selectors in used:
        assert {*re.findall(r"(\w+)=~?\"", selectors)} <= known[name] | TARGETS
        assert 'job="guard"' in selectors
    grouped = {*", ".join(re.findall(r"by \(([^)]*)\)", rule["expr"])).split(", ")} - {""}
    assert grouped <= set.union(*(known[name] for name, _ in used)) | TARGETS
    assert rule["labels"]["severity"] in ("warning", "critical")
    for name in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):  # lost where a sum drops it
        assert name in TARGETS
        assert "by (" not in rule["expr"] or name in grouped


def test_the_job_is_scraped_where_the_image_listens() -> None:
    served = yaml.safe_load((ROOT / "deploy" / "docker" / "serve.yaml").read_text())
    (job,) = CONFIG["scrape_configs"]
    assert job["job_name"] == "guard"
    assert job["static_configs"] == [{"targets": [f"guard:{served['metrics_port']}"]}]
    assert CONFIG["rule_files"] == ["alerts.yml"]


def test_a_real_scrape_has_every_metric_of_dashboard_and_alerts(scraped: set[str]) -> None:
    named = " ".join([*expressions(), *(rule["expr"] for rule in RULES), *queries()])
    names = {*re.findall(r"\bguard_\w+", named)}
    assert len(names) > 20
    assert names <= scraped


def queries() -> list[str]:
    return [variable["query"] for variable in DASHBOARD["templating"]["list"]]


def test_promtool_reads_them_and_the_alerts_fire() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([promtool, *command], cwd=FOLDER, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
