"""How large the CPU image is: its base, and the packages that its Dockerfile installs, layer by layer.

    python benchmarks/image_size.py [--base-mb MB]

The packages are installed from their real wheels into a scratch folder, by the Dockerfile's own extras and constraints,
and their files are added up, byte code included. The base image cannot be measured without a registry: 150 MB is taken,
the largest figure that users of python:3.11-slim report; `docker image ls` says what it is on your machine.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
RESULTS = Path(__file__).parent / "results" / "image_size.json"
SHOWN = 8


def argument(name: str, stage: str = "") -> str:
    """The default of a build argument: the first in the file, or the first after the head of a stage."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    match = re.search(rf"^ARG {name}=(\S+)$", text[text.index(stage and f" AS {stage}\n") :], re.MULTILINE)
    if match is None:
        raise SystemExit(f"{DOCKERFILE}: {stage or 'the head'} has no ARG {name}")
    return match[1]


def size(of: Distribution, root: Path) -> int:
    """Bytes of the files that a distribution has installed into the folder."""
    paths = {Path(str(of.locate_file(file))).resolve() for file in of.files or ()}
    return sum(path.stat().st_size for path in paths if path.is_file() and path.is_relative_to(root))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-mb", type=float, default=150)
    given = parser.parse_args()
    extras = argument("EXTRAS", "cpu-packages")
    with tempfile.TemporaryDirectory() as folder:
        packages = Path(folder).resolve() / "packages"
        run = [sys.executable, "-m"]
        subprocess.run(
            [*run, "build", "-w", "--no-isolation", "--outdir", folder, str(ROOT)], check=True, stdout=sys.stderr
        )
        (wheel,) = Path(folder).glob("*.whl")
        pip = [*run, "pip", "install", "-q", "--target", str(packages), "-c", str(ROOT / "constraints.txt")]
        subprocess.run([*pip, f"{wheel}[{extras}]"], check=True)
        sizes = {each.name: size(each, packages) for each in distributions(path=[str(packages)])}
        whole = sum(path.lstat().st_size for path in packages.rglob("*") if path.is_file() or path.is_symlink())
        wheel_size = wheel.stat().st_size
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:SHOWN]
    result = {
        "command": "python benchmarks/image_size.py",
        "base": argument("BASE"),
        "base_mb_assumed": given.base_mb,
        "extras": extras,
        "wheel_mb": round(wheel_size / 1e6, 1),
        "packages": len(sizes),
        "packages_mb": round(whole / 1e6, 1),
        "largest_mb": {name: round(sizes[name] / 1e6, 1) for name in largest},
        "image_mb": round(given.base_mb + whole / 1e6, 1),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
