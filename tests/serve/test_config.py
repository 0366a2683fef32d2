"""The settings of a server: file, environment and options, their order, and what is said of mistakes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from guard.cli import main
from guard.errors import ConfigError
from guard.serve.config import PREFIX, Given, Settings, environment, keys, settings, variable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "serve.yaml"


def test_later_sources_override_earlier_ones(file: Path) -> None:
    file.write_text("port: 1\nrest_port: 2\nhost: file\nlimits: {queue_windows: 7, queue_tokens: 9}\n")
    given = environment(
        {"GUARD_SERVE_PORT": "3", "GUARD_SERVE_HOST": "0.0.0.0", "GUARD_SERVE_LIMITS_QUEUE_WINDOWS": "8"}
    )
    given.append(Given("--port", "port", 4))
    found = settings(file, given)
    assert (found.port, found.rest_port, found.host) == (4, 2, "0.0.0.0")
    assert (found.limits.queue_windows, found.limits.queue_tokens, found.limits.request_bytes) == (8, 9, 4 << 20)
    assert settings(None, []) == Settings()


def test_text_in_a_variable_stays_text_and_the_rest_is_yaml() -> None:
    given = environment(
        {
            "GUARD_SERVE_MODEL": "007",
            "GUARD_SERVE_REST_PORT": "null",
            "GUARD_SERVE_API_KEYS": "a: b",
            "GUARD_API_KEY": "x",
        }
    )
    found = settings(None, given)
    assert (found.model, found.rest_port, found.api_keys) == ("007", None, Path("a: b"))


def test_every_setting_has_a_variable_of_its_own_and_a_default() -> None:
    known = [key for key, _ in keys(Settings)]
    assert {"port", "limits.queue_tokens"} <= {*known}
    assert len({variable(key) for key in known}) == len(known)
    assert all(variable(key).startswith(PREFIX) for key in known)
    Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: 1\nrest_prot: 2\n", ":2: unknown key `rest_prot`; did you mean `rest_port`? Allowed: "),
        ("limits:\n  queue_window: 2\n", ":2: unknown key `queue_window`; did you mean `queue_windows`? Allowed: "),
        ("port: '50051'\n", ":1: port: must be a valid integer (given: '50051')"),
        ("port: 65536\n", ":1: port: must be less than or equal to 65535 (given: 65536)"),
        ("mode: lenient\n", ":1: mode: must be 'strict', 'balanced' or 'permissive' (given: 'lenient')"),
        ("limits: {queue_windows: 0}\n", ":1: limits.queue_windows: must be greater than or equal to 1 (given: 0)"),
        ("limits: {request_seconds: .inf}\n", ":1: limits.request_seconds: must be a finite number"),
        ("reward_weights: {safe: .nan}\n", ":1: reward_weights.safe: must be a finite number"),
        ("- port\n", ":1: the document: must be a mapping (key: value)"),
        ("port: [", ":1: "),
    ],
)
def test_a_mistake_in_the_file_has_its_line_and_what_is_allowed(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{file}{said}")):
        settings(file, [])


def test_reward_models_and_weights_agree() -> None:
    given = environment({"GUARD_SERVE_REWARDS": "{helpful: runs/bt}", "GUARD_SERVE_REWARD_WEIGHTS": "{helpful: 2}"})
    assert (settings(None, given).rewards, settings(None, given).reward_weights) == (
        {"helpful": "runs/bt"},
        {"helpful": 2},
    )
    for key, value, said in (
        (
            "rewards",
            {"safe": "fake"},
            "rewards.safe: must be an identifier, and none of safe, not_refusal, undecided",
        ),
        ("rewards", {"a b": "fake"}, "rewards.a b: must be an identifier"),
        ("reward_weights", {"kind": 1.0}, "reward_weights.kind: no such component; known: safe, not_refusal"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            settings(None, [Given("--reward", key, value)])


def test_mistakes_name_the_variable_or_option() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown environment variable GUARD_SERVE_PROT; did you mean GUARD_SERVE_PORT"
    ):
        environment({"GUARD_SERVE_PROT": "1"})
    for where, given in (
        ("GUARD_SERVE_PORT", environment({"GUARD_SERVE_PORT": "tcp://10.0.0.1:50051"})),
        ("--port", [Given("--port", "port", 1 << 16)]),
    ):
        with pytest.raises(ConfigError, match=rf"^{where}: port: must be "):
            settings(None, given)


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


def test_check_config_opens_what_the_settings_name(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(json.dumps({"model": "fake", "policy": "minimal"}))
    assert run("serve", "--config", file, "--check-config", capsys=capsys) == (0, f"{file}: valid\n")
    code, said = run("serve", "--config", file, "--check-config", "--policy", "minimul", capsys=capsys)
    assert (code, "did you mean 'minimal'" in said) == (2, True)
    code, said = run("serve", "--config", file, "--check-config", "--model", tmp_path / "none", capsys=capsys)
    assert (code, "no such folder" in said) == (2, True)
    assert run("serve", "--config", file, "--check-config", "--reward", "helpful=fake", capsys=capsys)[0] == 0
    for reward, told in (("helpful", "must be NAME=MODEL"), ("safe=fake", "must be an identifier")):
        code, said = run("serve", "--config", file, "--check-config", "--reward", reward, capsys=capsys)
        assert (code, told in said) == (2, True)
    monkeypatch.setenv("GUARD_SERVE_API_KEYS", str(tmp_path / "keys.yaml"))
    code, said = run("serve", "--config", file, "--check-config", capsys=capsys)
    assert (code, "keys.yaml" in said) == (2, True)


def test_a_server_from_a_file(file: Path) -> None:
    file.write_text("model: fake\nport: 0\nmode: lenient\n")
    command = [sys.executable, "-m", "guard", "serve", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"guard: {file}:3: mode: must be 'strict', 'balanced' or 'permissive' (given: 'lenient')\n"
    file.write_text("model: fake\nport: 0\n")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "GUARD_SERVE_MODE": "strict"}
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("guard serving on 127.0.0.1:")
        server.terminate()
        assert server.wait(20) == 0
