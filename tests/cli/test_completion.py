"""What a shell completes, by the protocol of its script, and that this is quick."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

GUARD = [sys.executable, "-m", "guard"]


def completed(words: str, shell: str = "bash", python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The answer to the shell's question how the last word of a line goes on."""
    variables = {
        "_GUARD_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    command = [sys.executable, *python, "-m", "guard"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **variables})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("guard po", ["policy"]),
        ("guard data in", ["inspect"]),
        ("guard check --pol", ["--policy"]),
        ("guard check --policy ml", ["mlcommons"]),
        ("guard -q check hello --mode s", ["strict"]),
        ("guard check --model mini", ["mini-en", "mini-multi"]),
        ("guard train lora-1", ["lora-1gpu"]),
        ("guard train --copy sf", ["sft.py"]),
        ("guard policy show wild", ["wildguard"]),
        ("guard check --policy ./", []),
    ],
)
def test_commands_options_and_names(words: str, expected: list[str]) -> None:
    done = completed(words)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, expected, "")


@pytest.mark.parametrize(
    ("shell", "told"), [("zsh", """_arguments '*: :(("mlcommons"))'\n"""), ("fish", "mlcommons\n")]
)
def test_other_shells(shell: str, told: str) -> None:
    assert completed("guard check --policy ml", shell).stdout == told


@pytest.mark.parametrize("words", ["guard po", "guard filter --pol", "guard data in"])
def test_completing_imports_nothing_that_takes_long(words: str) -> None:
    done = completed(words, python=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert {"typer", "guard"} <= imported
    assert not imported & {"torch", "onnxruntime", "numpy", "pydantic", "rich", "yaml", "grpc", "tokenizers"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_guard(shell: str) -> None:
    command = [sys.executable, "-c", "from guard.cli import main; main()"]
    variables = {"_GUARD_COMPLETE": f"source_{shell}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **variables})
    assert done.returncode == 0
    assert f"complete_{shell}" in done.stdout
    assert "guard" in done.stdout
