"""How many replicas a load takes, from the measured CPU time of a text; writes the examples of docs/capacity.md.

python benchmarks/capacity.py --per-second 500 [--way unary|batch|rest] [--cores N] [--utilisation U] [--windows W]
                              [--cpu-ms MS] [--spare N]
python benchmarks/capacity.py --write | --check       # the examples of docs/capacity.md, or whether they are stale
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "grpc_throughput.json"
PAGE = Path(__file__).parent.parent / "docs" / "capacity.md"
START, END = "<!-- capacity -->\n", "<!-- /capacity -->\n"
UTILISATION = 0.6
EXAMPLES = ((50.0, 2, "unary"), (500.0, 4, "unary"), (500.0, 4, "batch"), (500.0, 4, "rest"), (2000.0, 8, "batch"))


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for.

    per_second: conversations. windows: of one, on average; a text that fits the model's window is one. cores: of a
    replica. utilisation: the share of them that may be busy, on average. spare: replicas that may be gone.
    """

    per_second: float
    cores: int
    way: str = "unary"
    utilisation: float = UTILISATION
    windows: float = 1.0
    spare: int = 1


def cpu_ms(way: str) -> float:
    """Milliseconds of CPU for a text, of the server and its engine, as the benchmark measured them."""
    found: float = json.loads(RESULTS.read_text(encoding="utf-8"))["cpu_ms_per_text"][way]["server_and_engine"]
    return found


def replica_rate(load: Load, ms: float) -> float:
    """Conversations a second of one replica at the utilisation."""
    return load.utilisation * load.cores * 1000 / (ms * load.windows)


def replicas(load: Load, ms: float) -> int:
    """As many as the load takes, and those that may be gone besides."""
    return math.ceil(load.per_second / replica_rate(load, ms)) + load.spare


def examples() -> str:
    rows = ["| conversations/s | way | cores of a replica | CPU ms a text | conversations/s of a replica | replicas |"]
    rows.append("|---|---|---|---|---|---|")
    for per_second, cores, way in EXAMPLES:
        load, ms = Load(per_second, cores, way), cpu_ms(way)
        rate = replica_rate(load, ms)
        rows.append(f"| {per_second:g} | `{way}` | {cores} | {ms:.1f} | {rate:.0f} | {replicas(load, ms)} |")
    return "\n".join(rows) + "\n"


def with_examples(page: str) -> str:
    head, _, rest = page.partition(START)
    return f"{head}{START}{examples()}{END}{rest.partition(END)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-second", type=float)
    parser.add_argument("--way", choices=("unary", "batch", "rest"), default="unary")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--utilisation", type=float, default=UTILISATION)
    parser.add_argument("--windows", type=float, default=1.0)
    parser.add_argument("--spare", type=int, default=1)
    parser.add_argument("--cpu-ms", type=float, help="of your texts on your machine; default: the benchmark's")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.write or given.check:
        page = PAGE.read_text(encoding="utf-8")
        if given.write:
            PAGE.write_text(with_examples(page), encoding="utf-8")
        elif page != with_examples(page):
            sys.exit(f"{PAGE}: the examples are stale; run: python benchmarks/capacity.py --write")
        return
    if given.per_second is None:
        parser.error("--per-second is missing")
    load = Load(given.per_second, given.cores, given.way, given.utilisation, given.windows, given.spare)
    ms = given.cpu_ms or cpu_ms(load.way)
    print(f"{replicas(load, ms)} replicas of {load.cores} cores ({replica_rate(load, ms):.0f} conversations/s each)")


if __name__ == "__main__":
    main()
