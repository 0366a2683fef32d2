"""What the README shows works as it is written, and its numbers are those that were measured."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUARD = [sys.executable, "-m", "guard"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def tour() -> list[str]:
    """The tour's `guard` lines, without their comments."""
    (lines,) = [block for block in blocks("sh") if "guard serve" in block]
    return [re.sub(r"\s+#.*", "", line) for line in lines.splitlines() if line.startswith("guard ")]


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = line.replace("guard ", f"{sys.executable} -m guard ", 1)
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "examples" / "chats.jsonl", tmp_path / "chats.jsonl")
    return tmp_path


def test_tables_are_what_was_measured() -> None:
    done = subprocess.run([sys.executable, "benchmarks/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_whole_tour(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    server = None
    try:
        for line in tour():
            line = line.replace("50051", port)
            if line.startswith("guard serve"):
                command = [*GUARD, *line.removeprefix("guard ").removesuffix("&").split()]
                server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
                assert server.stdout is not None
                assert "serving on" in server.stdout.readline()
                continue
            done = run(line, folder)
            assert done.returncode in (0, 1), f"{line}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr, line
        assert (folder / "kept.jsonl").exists()
        assert (folder / "bundles" / "bakery" / "guard.json").exists()
        snippets = blocks("python")
        assert len(snippets) == 2
        for snippet in snippets:
            code = snippet.replace("50051", port)
            environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
    finally:
        if server is not None:
            server.terminate()
            assert server.wait(timeout=30) == 0
            assert server.stdout is not None
            server.stdout.close()


def test_the_install_commands_name_files_that_exist() -> None:
    for name in ("constraints.txt", "examples/chats.jsonl", "examples/bakery.yaml", "examples/bakery.jsonl"):
        assert name in README
        assert (ROOT / name).is_file()
