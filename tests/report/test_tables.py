"""Tables on the terminal: they fit where they are shown; texts stay texts, numbers stand to the right."""

import pytest

from guard.report.tables import WIDTH, add, number_table, show, table

WORDS = "seventeen gardeners water the roses and prune the figs " * 4


@pytest.fixture(autouse=True)
def no_columns(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def lines(capsys):
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip(" ─")]


def test_texts_are_no_markup_and_whole_numbers_are_grouped(capsys):
    show(table("name", "rows", rows=[("[red]roses[/red] :rose:", 12345)]))
    assert [line.split() for line in lines(capsys)] == [["name", "rows"], ["[red]roses[/red]", ":rose:", "12,345"]]


def test_numbers_are_aligned_to_the_right(capsys):
    numbers = number_table("set", "F1", "rows")
    add(numbers, "a long name of a set", "0.5", 7)
    add(numbers, "b", "0.125", 1000, end_section=True)
    show(numbers)
    head, first, second = lines(capsys)
    assert len(head) == len(first) == len(second)
    assert second.endswith("0.125  1,000")


def test_no_header_where_no_column_has_a_name(capsys):
    show(number_table("", "", rows=[("kept", 3)]), table("", rows=[("alone",)]))
    assert [line.split() for line in lines(capsys)] == [["kept", "3"], ["alone"]]


def test_a_table_in_a_pipe_is_at_most_100_columns_wide_and_loses_nothing(capsys):
    rows = [("[bold]roses[/bold]", 1234567, WORDS), ("x" * 150, 1, ":rose:")]
    show(table("name", "count", "title", rows=rows))
    shown = lines(capsys)
    assert max(map(len, shown)) <= WIDTH == 100
    assert "".join("".join(shown).split()).count("x") == 150
    assert all(part in "\n".join(shown) for part in ("[bold]roses[/bold]", "1,234,567", ":rose:"))
    assert sum(line.count("roses") for line in shown) == 5


def test_names_fold_beside_numbers_which_are_never_cut(capsys):
    show(number_table("set", *"abcdef", rows=[(WORDS, *[1234567] * 6)]))
    shown = lines(capsys)
    assert sum(line.count("1,234,567") for line in shown) == 6
    assert sum(line.count("gardeners") for line in shown) == 4


@pytest.mark.parametrize("colour", [None, "1"])
@pytest.mark.parametrize("make", [table, number_table])
def test_the_environment_may_give_another_width(capsys, monkeypatch, make, colour):
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if colour:
        monkeypatch.setenv("FORCE_COLOR", colour)
    show(make("text", rows=[(WORDS,)]))
    assert WORDS.strip() in lines(capsys)[-1]
