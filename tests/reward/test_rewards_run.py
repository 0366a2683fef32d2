"""training/runs/rewards.sh names every system, and refuses others before it does anything."""

from __future__ import annotations

import re
import subprocess

from guard import assets
from guard.reward.systems import SYSTEMS

SCRIPT = assets.asset("training/runs/rewards.sh")


def test_every_system_is_trained():
    listed = re.search(r"systems=\((length.*?)\)", SCRIPT.read_text(encoding="utf-8"), re.DOTALL)
    assert listed is not None
    assert set(listed[1].split()) == {"length", "guard", *SYSTEMS} - {"rl"}


def test_an_unknown_system_is_refused(tmp_path):
    done = subprocess.run(
        ["bash", SCRIPT, tmp_path, tmp_path, tmp_path / "out", "bt", "rl"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, "rl: no such system; see docs/rewards.md\n")
    assert not any((tmp_path / "out").iterdir())
