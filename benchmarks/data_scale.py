"""How a data build grows with its rows: wall time and peak memory of all its processes, at 1, 4 and 16 times the data.

python benchmarks/data_scale.py --root DIR [--times 1 4 16] [--config FILE]

The rows of every source are read once; copy k of a row has its words in another order, so that it is neither a
duplicate nor a near-duplicate of the others. The first figure is the build of the raw files themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from guard.data.build import config
from guard.data.ingest import source_rows
from guard.data.row import Row
from guard.data.sources import description

RESULTS = Path(__file__).parent / "results" / "data_scale.json"
DEFAULT = Path(__file__).parent.parent / "training" / "configs" / "data-all.yaml"


def resident(pid: int) -> int:
    """Bytes of memory of a process and its descendants that are its own or in use, files in the page cache left out."""
    total = 0
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        total = sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return total
    return total + sum(resident(int(child)) for child in children)


def measured(command: list[str]) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak memory (MB, all processes together, sampled) of a command."""
    before = os.times()
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], resident(process.pid))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    rows = json.loads(out)["rows"]
    return {
        "read": rows["read"],
        "kept": rows["kept"],
        "wall_s": round(time.perf_counter() - started, 1),
        "cpu_s": round(cpu, 1),
        "peak_rss_mb": round(peak[0] / 1e6),
    }


def copies(row: Row, times: int, rng: random.Random) -> Iterator[dict[str, object]]:
    """The row `times` times, from the second on with its words in another order."""
    for copy in range(times):
        texts = {"prompt": row.prompt, "response": row.response}
        if copy:
            for name, text in texts.items():
                if text is not None:
                    words = text.split() if " " in text else list(text)
                    rng.shuffle(words)
                    texts[name] = (" " if " " in text else "").join(words)
        yield {**texts, "label": row.label, "categories": list(row.categories or ()) if row.label == "unsafe" else None}


def write(settings: config.BuildConfig, root: Path, folder: Path, times: int) -> Path:
    """A configuration whose own data are the rows of all sources, `times` over."""
    entries = []
    for name in [use.source for use in settings.sources] + list(settings.development):
        source = description.load(name)
        if source.kind == "pair" or source.label.otherwise == "unlabelled":
            continue
        rng = random.Random(name)
        path = folder / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in source_rows.rows(source, root, description.load_crosswalk(source)):
                if row.label != "unlabelled" and row.judged.strip():
                    for one in copies(row, times, rng):
                        file.write(json.dumps({k: v for k, v in one.items() if v is not None}) + "\n")
        entries.append({"path": path.name, "name": name})
    made = {
        "policy": settings.policy,
        "seed": settings.seed,
        "decontaminate": str((root / "fingerprints").resolve()),
        "near_duplicates": settings.near_duplicates,
        "data": entries,
    }
    config_path = folder / "build.yaml"
    config_path.write_text(yaml.safe_dump(made))
    return config_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--config", type=Path, default=DEFAULT)
    options = parser.parse_args()
    settings = config.load(options.config)
    build = [sys.executable, "-m", "guard", "data", "build"]
    with tempfile.TemporaryDirectory() as scratch:
        out = ["--out", f"{scratch}/out", "--json"]
        result: dict[str, object] = {
            "command": "python benchmarks/data_scale.py --root DIR",
            "cores": len(os.sched_getaffinity(0)),
            "raw": measured([*build, str(options.config), "--root", str(options.root), *out]),
        }
        print("raw", result["raw"], flush=True)
        scaled = {}
        for times in options.times:
            folder = Path(scratch) / f"times{times}"
            folder.mkdir()
            made = write(settings, options.root, folder, times)
            scaled[str(times)] = measured([*build, str(made), "--root", str(folder), *out])
            print(times, scaled[str(times)], flush=True)
            for path in folder.iterdir():
                path.unlink()
        result["times"] = scaled
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
