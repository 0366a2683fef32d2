"""The dashboard speaks of metrics and labels that exist, and of every metric."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from guard.serve.metrics import Metrics

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "guard.json").read_text())
TARGETS = {"job", "instance"}  # what Prometheus adds to each


def labels() -> dict[str, set[str]]:
    """The labels of each name of a sample that the service exports."""
    names: dict[str, set[str]] = {}
    for collector in Metrics().registry._collector_to_names:
        (family,) = collector.describe()
        own = {*getattr(collector, "_labelnames", ())}
        match family.type:
            case "counter":
                names[f"{family.name}_total"] = own
            case "histogram":
                names |= {f"{family.name}_{part}": own for part in ("sum", "count")}
                names[f"{family.name}_bucket"] = own | {"le"}
            case _:
                names[family.name] = own
    return names


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def test_every_metric_and_label_of_the_dashboard_exists() -> None:
    known = labels()
    for expression in expressions():
        used = re.findall(r"(guard_\w+)\{([^}]*)\}", expression)
        assert len(used) == expression.count("guard_")
        for name, selectors in used:
            assert name in known, name
            assert {*re.findall(r"(\w+)=~?\"", selectors)} <= known[name] | TARGETS
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            assert {*grouped.replace(" ", "").split(",")} <= set.union(*(known[name] for name, _ in used)) | TARGETS
    for variable in DASHBOARD["templating"]["list"][1:]:
        assert re.fullmatch(rf"label_values\(guard_model_info, {variable['name']}\)", variable["query"])


def test_every_metric_has_a_panel() -> None:
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"guard_\w+", " ".join(expressions()))}
    assert shown == {re.sub(r"_(bucket|sum|count)$", "", name) for name in labels()}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len({*cells}) == len(cells)
    assert all(0 <= x < 24 for x, _ in cells)
