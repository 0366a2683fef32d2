"""What rewards over HTTP cost: answers a second by 64 clients with single samples, as OpenRLHF's are, and offline.

The server is a process of its own (`guard serve`), whose guard is the reward; each client has a connection of its own
and sends its next sample when it has the reward of the last one. The answers are made up, of mixed lengths, all
different. Either way is measured once a round, in turn, and the median round counts. The rewards of both must agree.

    python benchmarks/reward_throughput.py [--model BUNDLE|fake] [--items N] [--out FILE]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from grpc_throughput import processor, server
from texts import made_up

from guard import Conversation, open_moderator
from guard.reward.score import clipped
from guard.verdict import log_odds

RESULTS = Path(__file__).parent / "results" / "reward_throughput.json"
CLIENTS, ROUNDS = 64, 3
PROMPT = "<|im_start|>user\nPlease tell me more.<|im_end|>\n<|im_start|>assistant\n"  # in a policy's template


def offline(moderator: object, answers: list[str]) -> list[float]:
    verdicts = moderator.moderate([Conversation.of(PROMPT, answer) for answer in answers])  # type: ignore[attr-defined]
    return [clipped(-log_odds(verdict.p_unsafe)) for verdict in verdicts]


class Clients:
    """So many threads, each with a connection that it keeps; `latencies` are the seconds of each request."""

    def __init__(self, url: str) -> None:
        self.latencies: list[float] = []
        self._address, self._own = urlsplit(url).netloc, threading.local()
        self._pool = ThreadPoolExecutor(CLIENTS)

    def rewards(self, answers: list[str]) -> list[float]:
        self.latencies = []
        return list(self._pool.map(self._one, answers))

    def _one(self, answer: str) -> float:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(self._address, timeout=180)
        body = json.dumps({"query": [PROMPT + answer], "prompts": [PROMPT], "labels": [""]})
        started = time.perf_counter()
        self._own.connection.request("POST", "/get_reward", body, {"content-type": "application/json"})
        response = self._own.connection.getresponse()
        told = response.read()
        self.latencies.append(time.perf_counter() - started)
        if response.status != 200:
            raise SystemExit(f"the server answered {response.status}: {told.decode()}")
        return float(json.loads(told)["extra_logs"]["safe"][0])


def measure(model: str | None, items: int, threads: int) -> dict[str, object]:
    answers = made_up(items, longest=800)
    moderator = open_moderator(model, threads=threads)
    seconds: dict[str, list[float]] = {"offline": [], "get_reward": []}
    rewards: dict[str, list[float]] = {}
    with server(model, threads, "--rest-port", "0") as one:
        clients = Clients(one.url)
        ways = {"offline": lambda: offline(moderator, answers), "get_reward": lambda: clients.rewards(answers)}
        offline(moderator, answers[:CLIENTS])
        clients.rewards(answers[:CLIENTS])
        for _ in range(ROUNDS):
            for way, work in ways.items():
                started = time.perf_counter()
                rewards[way] = work()
                seconds[way].append(time.perf_counter() - started)
    ratios = [offline / served for offline, served in zip(seconds["offline"], seconds["get_reward"], strict=True)]
    latencies = sorted(clients.latencies)
    return {
        "answers_per_second": {way: round(items / statistics.median(taken), 1) for way, taken in seconds.items()},
        "ratio_to_offline": {"median": round(statistics.median(ratios), 3), "rounds": [round(r, 3) for r in ratios]},
        "latency_ms": {f"p{p}": round(latencies[len(latencies) * p // 100] * 1e3, 1) for p in (50, 95, 99)},
        "seconds": {way: [round(each, 3) for each in taken] for way, taken in seconds.items()},
        "largest_difference": max(abs(a - b) for a, b in zip(rewards["offline"], rewards["get_reward"], strict=True)),
        "items": items,
        "clients": CLIENTS,
        "threads": threads,
        "model": {"kind": moderator.engine.info.kind, "digest": moderator.engine.info.digest},
        "machine": {"cores": os.cpu_count(), "processor": processor(), "python": platform.python_version()},
        "packages": {name: version(name) for name in ("guard-service", "starlette", "uvicorn", "onnxruntime")},
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", help="bundle folder or `fake`; without it the guard that ships in the package")
    options.add_argument("--items", type=int, default=1024)
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the model, in both processes")
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args()
    result = measure(given.model, given.items, given.threads)
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    rates, ratio = result["answers_per_second"], result["ratio_to_offline"]
    for way, rate in rates.items():  # type: ignore[attr-defined]
        print(f"{way:<12}{rate:>10.1f} answers/s")
    print(f"/get_reward is {ratio['median']} of offline; written to {given.out}")  # type: ignore[index]


if __name__ == "__main__":
    main()
