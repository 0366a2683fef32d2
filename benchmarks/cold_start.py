"""What a first user meets: size of the base install, cold `guard check` wall time and peak memory, in fresh processes.

python benchmarks/cold_start.py [--python PYTHON_OF_A_BASE_INSTALL]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "cold_start.json"
RUNS = 7


def measured(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MB of one run of the command, by the kernel's accounting."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    check = [options.python, "-m", "guard", "check"]
    commands = {
        "text": [*check, "Why do my tomatoes split after heavy rain?"],
        "file": [*check, "--file", str(Path(__file__).parent.parent / "examples" / "chats.jsonl")],
    }
    result: dict[str, object] = {
        "command": "python benchmarks/cold_start.py --python BASE_INSTALL/bin/python",
        "runs": RUNS,
    }
    for name, command in commands.items():
        times, memory = zip(*(measured(command) for _ in range(RUNS)), strict=True)
        result[name] = {
            "wall_s_median": round(statistics.median(times), 2),
            "wall_s_max": round(max(times), 2),
            "peak_rss_mb": round(max(memory)),
        }
    prefix = subprocess.run(
        [options.python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True
    ).stdout
    size = sum(path.lstat().st_size for path in Path(prefix.strip()).rglob("*") if path.is_file() or path.is_symlink())
    result["environment_mb"] = round(size / 1e6)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
