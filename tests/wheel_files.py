"""Checks the file list of a built wheel: `python tests/wheel_files.py dist/x.whl`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

# Which tracked files must be packed, and under which name: checkout prefix -> wheel prefix.
SHELVES = {
    "guard/": "guard/",
    "taxonomy/policies/": "guard/_assets/taxonomy/policies/",
    "taxonomy/crosswalks/": "guard/_assets/taxonomy/crosswalks/",
    "taxonomy/sources/": "guard/_assets/taxonomy/sources/",
    "taxonomy/downloads/": "guard/_assets/taxonomy/downloads/",
    "taxonomy/peers/": "guard/_assets/taxonomy/peers/",
    "taxonomy/templates/": "guard/_assets/taxonomy/templates/",
    "taxonomy/topics/": "guard/_assets/taxonomy/topics/",
    "taxonomy/seeds/": "guard/_assets/taxonomy/seeds/",
    "taxonomy/words/": "guard/_assets/taxonomy/words/",
    "training/recipes/": "guard/_assets/training/recipes/",
    "training/configs/": "guard/_assets/training/configs/",
}
NEEDED = {
    "guard/_assets/bundles/mini-en/model.onnx",
    "guard/_assets/bundles/mini-en/model.safetensors",
    "guard/_assets/bundles/mini-en/guard.json",
    "guard/_assets/taxonomy/policies/mlcommons.yaml",
    "guard/_assets/training/recipes/encoder.py",
    "guard/serve/http/playground/index.html",
    "guard/serve/http/playground/main.js",
    "guard/serve/http/playground/page.css",
    "guard/v1/moderation_pb2.py",
    "guard/py.typed",
}


def expected(root: Path) -> set[str]:
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    found = set()
    for name in tracked:
        for shelf, packed in SHELVES.items():
            if name.startswith(shelf):
                found.add(packed + name.removeprefix(shelf))
    return found


def problems(wheel: Path, root: Path) -> list[str]:
    """What is in the wheel and should not be, and what is missing."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = expected(root)
    wrong = [f"not wanted: {name}" for name in sorted(packed - wanted)]
    wrong += [f"missing: {name}" for name in sorted((wanted | NEEDED) - packed)]
    if wheel.stat().st_size > 70_000_000:
        wrong.append(f"too large: {wheel.stat().st_size} bytes")
    return wrong


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]), Path(__file__).parent.parent)
    print("\n".join(found) or "wheel: exactly the tracked files")
    sys.exit(bool(found))
