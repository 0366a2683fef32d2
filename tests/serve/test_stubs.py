"""The committed stubs are what the .proto generates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.rpc import status_pb2

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_stubs_are_generated_from_the_proto(tmp_path: Path) -> None:
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    google = str(Path(status_pb2.__file__).parents[2])
    command = ["-m", "grpc_tools.protoc", "-I", "proto", "-I", google, *outputs]
    protos = [str(path.relative_to(ROOT / "proto")) for path in sorted((ROOT / "proto").rglob("*.proto"))]
    subprocess.run([sys.executable, *command, *protos], cwd=ROOT, check=True)
    made = sorted((tmp_path / "guard" / "v1").iterdir())
    committed = [path for path in sorted((ROOT / "guard" / "v1").glob("*.py*")) if path.name != "__init__.py"]
    assert [path.name for path in made] == [path.name for path in committed] != []
    for new, old in zip(made, committed, strict=True):
        assert new.read_bytes() == old.read_bytes(), f"{old.name} is stale: run `just gen`"
