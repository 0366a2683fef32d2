"""The protos by buf's rules (proto/buf.yaml), and that clients of the last release still understand the server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.rpc import status_pb2

from tests.fixtures.npm import install

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "proto"
RELEASED = ROOT / "tests" / "golden" / "proto"  # of 0.1.0; a release copies its protos here
Buf = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.fixture(scope="module")
def buf(tmp_path_factory: pytest.TempPathFactory) -> Buf:
    folder = install(tmp_path_factory.mktemp("buf"), "@bufbuild/buf@1.75.0")
    command = [str(folder / "node_modules" / ".bin" / "buf")]
    rules = ["--config", str(PROTOS / "buf.yaml"), "--path", "guard"]

    def run(what: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, what, *map(str, arguments), *rules], cwd=folder, capture_output=True, text=True, timeout=60
        )

    return run


def image(protos: Path, out: Path) -> Path:
    """Their descriptors with all that they import, made by protoc, because buf gets imports from its own registry."""
    google = str(Path(status_pb2.__file__).parents[2])
    files = [str(path.relative_to(protos)) for path in sorted(protos.rglob("*.proto"))]
    command = ["-m", "grpc_tools.protoc", "-I", str(protos), "-I", google, "--include_imports", "--include_source_info"]
    subprocess.run([sys.executable, *command, f"--descriptor_set_out={out}", *files], check=True)
    return out


def test_the_rules_hold(buf: Buf, tmp_path: Path) -> None:
    linted = buf("lint", image(PROTOS, tmp_path / "now.binpb"))
    assert (linted.returncode, linted.stdout) == (0, "")


def test_nothing_that_was_released_breaks(buf: Buf, tmp_path: Path) -> None:
    now, released = image(PROTOS, tmp_path / "now.binpb"), image(RELEASED, tmp_path / "released.binpb")
    compared = buf("breaking", now, "--against", released)
    assert (compared.returncode, compared.stdout) == (0, "")


def test_both_checks_notice_a_mistake(buf: Buf, tmp_path: Path) -> None:
    for path in PROTOS.rglob("*.proto"):
        copy = tmp_path / "changed" / path.relative_to(PROTOS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text().replace("double p_unsafe = 3;", "float pUnsafe = 3;"))
    changed, released = image(tmp_path / "changed", tmp_path / "now.binpb"), image(RELEASED, tmp_path / "then.binpb")
    assert "pUnsafe" in buf("lint", changed).stdout
    assert "changed type" in buf("breaking", changed, "--against", released).stdout
