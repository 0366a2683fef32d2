"""The progress bar: on a terminal it shows what it is told, elsewhere it writes nothing."""

import contextlib
import io
import logging
import os
import pty
import sys

import pytest

from guard.report.progress import progress_bar


@contextlib.contextmanager
def terminal():
    """A pseudo-terminal as standard error; the list holds what was shown when the block ends."""
    main_end, terminal_end = pty.openpty()
    shown: list[str] = []
    try:
        with os.fdopen(terminal_end, "w") as stream, contextlib.redirect_stderr(stream):
            yield shown
        output = b""
        with contextlib.suppress(OSError):  # the end of a terminal that is closed
            while chunk := os.read(main_end, 65536):
                output += chunk
        shown.append(output.decode())
    finally:
        os.close(main_end)


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_terminal_shows_label_and_amount():
    with terminal() as shown, progress_bar("rows.jsonl", 20) as bar:
        bar.advance(5)
        bar.advance(7, "[bold]second.jsonl")  # names are no markup
    assert "rows.jsonl" in shown[0] or "[bold]second.jsonl" in shown[0]
    assert "12/20" in shown[0]


def test_a_total_may_come_later_and_bytes_have_units():
    with terminal() as shown, progress_bar("files", unit="bytes") as bar:
        bar.advance(2048, total=4096)
    assert "kB" in shown[0]


def test_elsewhere_nothing_is_written_and_no_total_is_computed():
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream), progress_bar("rows", lambda: 1 / 0) as bar:
        bar.advance(3)
    assert stream.getvalue() == ""


def test_nothing_is_shown_on_a_terminal_where_no_warnings_are(caplog):
    with terminal() as shown, caplog.at_level(logging.ERROR, "guard"):
        with progress_bar("rows", lambda: 1 / 0) as bar:
            bar.advance(3)
        print("end", file=sys.stderr)
    assert shown == ["end\r\n"]
