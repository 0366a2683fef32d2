"""Tables on the terminal: texts stay texts, numbers stand to the right."""

import pytest

from guard.report.tables import add, number_table, show, table


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


@pytest.mark.parametrize("make", [table, number_table])
def test_long_texts_fold_nowhere_in_a_pipe(capsys, make):
    show(make("text", rows=[("word " * 40,)]))
    assert " ".join(["word"] * 40) in lines(capsys)[-1]
