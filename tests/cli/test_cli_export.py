"""`guard export`: options that do not go together are told before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.cli import main


@pytest.mark.parametrize("given", [["--shots", "2", "--prompted"], ["--shots", "2", "--data", "rows"]])
def test_examples_come_with_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path), str(tmp_path / "out"), *given])
    assert ended.value.code == 2
    assert "--shots 2: goes with --prompted, and with --data" in capsys.readouterr().err
