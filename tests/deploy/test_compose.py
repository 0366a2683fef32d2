"""The compose file: valid, its paths exist, and it gives the service what it needs to end well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard.serve.config import Settings

FILE = Path(__file__).parents[2] / "deploy" / "compose" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_it_is_valid_by_the_compose_specification() -> None:
    specification = pytest.importorskip("compose_spec")
    without_merge_keys = yaml.safe_dump({key: value for key, value in COMPOSE.items() if not key.startswith("x-")})
    assert sorted(specification.PyCompose.from_yaml(without_merge_keys).service_names()) == sorted(SERVICES)
    with pytest.raises(ValueError, match="readonly"):
        specification.PyCompose.from_yaml(without_merge_keys.replace("read_only", "readonly"))


def test_the_files_that_it_builds_and_mounts_exist() -> None:
    build = SERVICES["guard"]["build"]
    root = (FILE.parent / build["context"]).resolve()
    assert f"AS {build['target']}\n" in (root / build["dockerfile"]).read_text()
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (FILE.parent / source).exists(), source


def test_it_is_reached_from_this_machine_alone_and_writes_nothing_but_what_is_said() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert all(volume.endswith(":ro") or not volume.startswith(".") for volume in service.get("volumes", ()))


def test_it_has_the_time_to_answer_what_it_accepted() -> None:
    defaults = Settings()
    assert SERVICES["guard"]["stop_grace_period"].endswith("s")
    seconds = float(SERVICES["guard"]["stop_grace_period"][:-1])
    assert seconds >= defaults.lame_duck_seconds + defaults.limits.request_seconds


def test_grafana_finds_its_data_and_its_dashboard() -> None:
    folder = FILE.parents[1] / "grafana"
    (source,) = yaml.safe_load((folder / "provisioning" / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "provisioning" / "dashboards" / "guard.yaml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/guard.json" in mounted
    assert json.loads((folder / "guard.json").read_text())["templating"]["list"][0]["query"] == source["type"]
