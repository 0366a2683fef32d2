"""docs/filtering.md: its tables are what `benchmarks/filter.py` measured, and its costs follow from them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "filtering.md").read_text(encoding="utf-8")
RATES = json.loads((ROOT / "benchmarks" / "results" / "filter.json").read_text(encoding="utf-8"))["speed"][
    "rows_per_cpu_second"
]


def cells(name: str) -> dict[str, list[str]]:
    """The rows of the tables between the marks, by their first cell."""
    block = PAGE.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def numbers(row: list[str]) -> list[float]:
    return [float(re.sub(r"[$,]", "", cell)) for cell in row]


def test_rates_are_those_that_were_measured():
    table = cells("speed")
    for leg, rate in RATES.items():
        assert numbers(table[leg])[1] == pytest.approx(rate, abs=0.051)


def test_costs_follow_from_the_rates():
    """By the formula that stands above the table."""
    table = cells("cost")
    (head,) = [cells for first, cells in table.items() if first.endswith("rows")]
    rows = float(next(first for first in table if first.endswith("rows")).removesuffix(" rows").replace(",", ""))
    price = float(re.search(r"\$([\d.]+)", head[-1])[1])
    priced = [leg for leg in table if leg in RATES]
    assert "guard filter" in priced
    for leg in priced:
        rate, core_hours, on_1000, dollars = numbers(table[leg])
        assert rate == pytest.approx(RATES[leg], abs=0.051)
        assert core_hours == pytest.approx(rows / (RATES[leg] * 3600), abs=1)
        assert on_1000 == pytest.approx(core_hours / 1000, abs=0.06)
        assert dollars == pytest.approx(rows / (RATES[leg] * 3600) * price, abs=1)
