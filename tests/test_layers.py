"""Imports point one way, heavy packages stay out of the light paths, and the public surface is what it says."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import guard

PACKAGE = Path(guard.__file__).parent

# The order of the parts. A module may import modules of the parts before its own, and of its own. The longest matching
# prefix counts. `v1` are generated stubs.
# fmt: off
ORDER = (
    "errors", "strict_json", "digest", "document", "assets", "schema", "v1",
    "message", "conversation", "verdict", "mode", "calibration", "external_data",
    "policy", "bundle", "metrics",
    "prompts", "views", "engines",
    "moderator", "stream", "batcher",
    "jobs", "llm", "report",
    "data", "data.documents", "data.sources", "data.ingest", "data.build", "data.dataset", "fetch",
    "annotate", "filter", "reward.score", "reward.scorer", "reward.completion", "serve", "chat", "train", "reward",
    "rewards", "evaluate", "bench", "doctor", "cli", "__main__",
)
# fmt: on
RANKS = {part: rank for rank, part in enumerate(ORDER)}
# What the base install must be able to import lazily, and must never import at the top of a light module.
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "onnxruntime",
    "onnx",
    "grpc",
    "numpy",
    "yaml",
    "rich",
    "tokenizers",
    "starlette",
    "uvicorn",
    "prometheus_client",
}


def modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if "_assets" not in path.parts]


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(name: str) -> str | None:
    """The ranked part that a module (dotted, below `guard`) belongs to."""
    pieces = name.split(".")
    for length in range(len(pieces), 0, -1):
        if ".".join(pieces[:length]) in RANKS:
            return ".".join(pieces[:length])
    return None


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "guard" else {node.module}
            )
    return found


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_point_down(path: Path) -> None:
    own = dotted(path)
    if own == "":
        return  # guard/__init__.py loads names lazily
    mine = part(own)
    assert mine is not None, f"{path} has no rank: add its part to RANKS"
    for name in imports(path):
        if not name.startswith("guard."):
            assert name.partition(".")[0] not in {"taxonomy", "training", "tests"}, f"{path} imports {name}"
            continue
        theirs = part(name.removeprefix("guard."))
        assert theirs is not None, f"{path} imports unranked {name}"
        assert theirs == mine or RANKS[theirs] < RANKS[mine], f"{path} ({mine}) imports {name} ({theirs})"


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_guard_loads_nothing_heavy() -> None:
    assert not loaded_by("import guard") & (HEAVY | {"pydantic", "typer"})


def test_the_command_line_loads_no_model_code() -> None:
    assert not loaded_by("import guard.cli") & {
        "torch",
        "transformers",
        "datasets",
        "onnxruntime",
        "onnx",
        "grpc",
        "numpy",
        "tokenizers",
    }


def test_serving_grpc_needs_no_package_of_http() -> None:
    assert not loaded_by("import guard.serve.server, guard.serve.client.blocking") & {
        "starlette",
        "uvicorn",
        "prometheus_client",
        "opentelemetry",
    }


def test_public_surface() -> None:
    assert dir(guard) == sorted(guard.__all__)
    assert len(guard.__all__) <= 15
    for name in guard.__all__:
        assert getattr(guard, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        guard.nonsense  # noqa: B018


def test_metrics_need_numpy_alone() -> None:
    for path in (PACKAGE / "metrics").glob("*.py"):
        foreign = {name.partition(".")[0] for name in imports(path) if not name.startswith("guard.metrics")}
        assert foreign <= {"numpy", *sys.stdlib_module_names}, path


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Imports inside functions count: a circle is one thing in several files, whenever it closes."""
    names = {dotted(path): path for path in modules()}
    graph = {name: _imported(path, names) - {name} for name, path in names.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which shows the circle


def _imported(path: Path, names: Mapping[str, Path]) -> set[str]:
    """The modules of ours that one imports: the module of a name, or the name where it is a module itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "guard":
            package = node.module.removeprefix("guard").removeprefix(".")
            for alias in node.names:
                whole = f"{package}.{alias.name}".removeprefix(".")
                found.add(whole if whole in names else package)
    return found & names.keys()
