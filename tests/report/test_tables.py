"""guard.report.tables: a table fits where it is shown."""

from __future__ import annotations

import pytest

from guard.report import tables

WORDS = "seventeen gardeners water the roses and prune the figs " * 4
MADE = ("name", "count", "title"), [("[bold]roses[/bold]", 1234567, WORDS), ("x" * 150, 1, ":rose:")]


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    columns, rows = MADE
    tables.show(tables.table(*columns, rows=rows))
    return [line for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_a_table_in_a_pipe_is_at_most_100_columns_wide_and_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = shown(capsys)
    assert max(map(len, lines)) <= 100
    text = "".join("".join(lines).split())
    assert text.count("x") == 150
    assert all(part in "\n".join(lines) for part in ("[bold]roses[/bold]", "1,234,567", ":rose:"))
    assert sum(line.count("roses") for line in lines) == 5


def test_the_environment_may_give_another_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    lines = shown(capsys)
    assert len(lines) == 4
    assert WORDS.strip() in lines[2]
    assert ":rose:" in lines[3]
