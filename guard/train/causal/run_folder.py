"""The folder of a causal run, which is whole at every moment: a run may be killed at any of them and started again.

started.json    what the run is made of; written first, and compared when the run is started again
checkpoints/    checkpoint-N; one counts if its trainer_state.json, which is written last, is whole
history.png     the plot so far
run.json        written last: the run is finished, and all that it names lies beside it
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guard.train.common.identity import claim

FINISHED = "run.json"
_STAGE = ".finishing"


def begin(out: Path, made_of: Mapping[str, Any]) -> Path | None:
    """Makes the folder ready and returns the checkpoint to go on from, if there is one.

    What a killed run left unfinished is removed. ConfigError if the folder holds a run made of something else.
    """
    claim(out, made_of)
    shutil.rmtree(out / _STAGE, ignore_errors=True)
    whole = []
    for checkpoint in (out / "checkpoints").glob("checkpoint-*"):
        if is_whole(checkpoint):
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def is_finished(out: Path) -> bool:
    return (out / FINISHED).exists()


def stage(out: Path) -> Path:
    """Where the finished run is put together before `publish`; made if it is not there."""
    folder = out / _STAGE
    folder.mkdir(exist_ok=True)
    return folder


def publish(out: Path) -> None:
    """Moves what was staged into `out`, `run.json` last."""
    entries = sorted(stage(out).iterdir(), key=lambda path: path.name == FINISHED)
    for entry in entries:
        target = out / entry.name
        if target.is_dir():
            shutil.rmtree(target)  # of a run killed while it was published
        entry.replace(target)
    stage(out).rmdir()


def is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
