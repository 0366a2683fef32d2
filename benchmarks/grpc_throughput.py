"""What the service costs: texts a second in process, by unary calls, by batches and over HTTP, in one run.

The server is a process of its own (`guard serve`), and so is its engine; the texts are made up, of mixed lengths, all
different. Every way is measured once a round, in turn, and the median round counts. All ways must agree.

Where server, engine and client share their cores with one another and with other work, the rate of a way tells little
about the service. So CPU time is told as well: `cpu_ratio` is the CPU time of scoring in process by that of the server
and its engine. It is the share of the engine's own rate that the service reaches where the client runs elsewhere and
the server's cores do nothing else.

    python benchmarks/grpc_throughput.py [--model BUNDLE|fake] [--items N] [--workers N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil
from page import publish
from texts import made_up

from guard import AsyncGuardClient, Conversation, Moderator, Verdict, open_moderator

RESULTS = Path(__file__).parent / "results" / "grpc_throughput.json"
PAGE = Path(__file__).parent.parent / "docs" / "serving.md"
CONCURRENCY, BATCH, BATCHES_IN_FLIGHT, ROUNDS = 64, 32, 4, 3
SINGLE, LOADED_S, IDLE_S = 64, 15.0, 3.0  # calls one by one; seconds at 0.8 of the unary rate; seconds without any


@dataclass(frozen=True)
class Server:
    """A `guard serve`: where it answers gRPC, and HTTP if it does."""

    address: str
    url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU time of the server and its engine so far."""
        times = [each.cpu_times() for each in (self.process, *self.process.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))


@contextmanager
def server(model: str | None, threads: int, *more: str) -> Iterator[Server]:
    """A server that ends with the block."""
    command = [sys.executable, "-m", "guard", "serve", "--port", "0", "--threads", str(threads), *more]
    process = subprocess.Popen([*command, "--model", model] if model else command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = re.search(r"serving on (\S+)(?: and (http\S+))?", process.stdout.readline())
        if ready is None:
            raise SystemExit("the server did not start; its error is above")
        yield Server(ready[1], ready[2] or "", psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


async def each(ask: Callable[[Conversation], Awaitable[float]], texts: Sequence[Conversation]) -> list[float]:
    """`p_unsafe` of every text, so many calls at a time."""
    turn = asyncio.Semaphore(CONCURRENCY)

    async def one(text: Conversation) -> float:
        async with turn:
            return await ask(text)

    return await asyncio.gather(*map(one, texts))


async def batched(client: AsyncGuardClient, texts: Sequence[Conversation]) -> list[float]:
    turn = asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def one(start: int) -> list[float]:
        async with turn:
            answers = await client.moderate_each(texts[start : start + BATCH])
        for answer in answers:
            if not isinstance(answer, Verdict):
                raise answer
        return [answer.p_unsafe for answer in answers if isinstance(answer, Verdict)]

    parts = await asyncio.gather(*map(one, range(0, len(texts), BATCH)))
    return [p for part in parts for p in part]


class Ways:
    """The ways to ask for verdicts."""

    def __init__(self, moderator: Moderator, client: AsyncGuardClient, http: httpx.AsyncClient) -> None:
        self.moderator, self.client, self.http = moderator, client, http

    async def in_process(self, text: Conversation) -> float:
        return self.moderator.moderate([text])[0].p_unsafe

    async def unary(self, text: Conversation) -> float:
        return (await self.client.moderate(text)).p_unsafe

    async def rest(self, text: Conversation) -> float:
        answer = await self.http.post("/v1/check", json={"prompt": text.judged.content})
        return float(answer.raise_for_status().json()["p_unsafe"])

    async def all_in_process(self, texts: Sequence[Conversation]) -> list[float]:
        return [verdict.p_unsafe for verdict in self.moderator.moderate(texts)]

    def all(self) -> dict[str, Callable[[Sequence[Conversation]], Awaitable[list[float]]]]:
        return {
            "in_process": self.all_in_process,
            "unary": lambda texts: each(self.unary, texts),
            "batch": lambda texts: batched(self.client, texts),
            "rest": lambda texts: each(self.rest, texts),
        }


async def one_by_one(ask: Callable[[Conversation], Awaitable[float]], texts: Sequence[Conversation]) -> list[float]:
    """Milliseconds of each call, with a pause after it."""
    found = []
    for text in texts:
        begun = time.perf_counter()
        await ask(text)
        found.append(1e3 * (time.perf_counter() - begun))
        await asyncio.sleep(0.01)
    return found


async def at_rate(
    ask: Callable[[Conversation], Awaitable[float]], texts: Sequence[Conversation], rate: float
) -> list[float]:
    """Milliseconds of calls that are made at this rate, whether or not those before are answered."""
    found: list[float] = []

    async def one(text: Conversation) -> None:
        begun = time.perf_counter()
        await ask(text)
        found.append(1e3 * (time.perf_counter() - begun))

    tasks, begun = [], time.monotonic()
    while (at := time.monotonic() - begun) < LOADED_S:
        while len(tasks) < rate * at:
            tasks.append(asyncio.create_task(one(texts[len(tasks) % len(texts)])))
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    return found


def percentile(values: Sequence[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 2)


async def measure(model: str | None, items: int, threads: int, workers: int) -> dict[str, Any]:
    texts = [Conversation.of(text) for text in made_up(items, longest=800)]
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[tuple[float, float]]] = {}  # of this process, and of the server
    told: dict[str, list[float]] = {}
    options = ("--rest-port", "0", "--workers", str(workers))
    with server(model, threads, *options) as one, open_moderator(model, threads=threads) as moderator:
        async with (
            AsyncGuardClient(one.address, timeout_s=300) as client,
            httpx.AsyncClient(base_url=one.url, timeout=300, trust_env=False) as http,
        ):
            ways = Ways(moderator, client, http)
            for work in ways.all().values():
                await work(texts[:CONCURRENCY])
            for _ in range(ROUNDS):
                for way, work in ways.all().items():
                    begun, own, theirs = time.perf_counter(), time.process_time(), one.cpu_s()
                    told[way] = await work(texts)
                    seconds.setdefault(way, []).append(time.perf_counter() - begun)
                    cpu.setdefault(way, []).append((time.process_time() - own, one.cpu_s() - theirs))
            alone = {
                name: await one_by_one(ask, texts[:SINGLE])
                for name, ask in (("in_process", ways.in_process), ("unary", ways.unary), ("rest", ways.rest))
            }
            rates = {way: round(items / statistics.median(taken), 1) for way, taken in seconds.items()}
            loaded = await at_rate(ways.unary, texts, 0.8 * rates["unary"])
            before = one.cpu_s()
            await asyncio.sleep(IDLE_S)
            idle = one.cpu_s() - before
    per_text = {way: [1e3 * statistics.median(part) / items for part in zip(*cpu[way], strict=True)] for way in cpu}
    engine = per_text["in_process"][0]
    return {
        "texts_per_second": rates,
        "ratio_to_in_process": {way: round(rate / rates["in_process"], 3) for way, rate in rates.items()},
        "cpu_ms_per_text": {
            way: {"in_process": round(engine, 3)}
            if way == "in_process"
            else {"server_and_engine": round(theirs, 3), "client": round(own, 3)}
            for way, (own, theirs) in per_text.items()
        },
        "cpu_ratio": {way: round(engine / theirs, 3) for way, (_, theirs) in per_text.items() if way != "in_process"},
        "one_by_one_ms": {
            name: {"p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99)} for name, taken in alone.items()
        },
        "added_ms_p50": {
            name: round(statistics.median(b - a for a, b in zip(alone["in_process"], alone[name], strict=True)), 2)
            for name in ("unary", "rest")
        },
        "at_0.8_of_unary_ms": {"p50": percentile(loaded, 0.5), "p99": percentile(loaded, 0.99)},
        "idle_cpu_share": round(idle / IDLE_S, 4),
        "seconds": {way: [round(each, 3) for each in taken] for way, taken in seconds.items()},
        "largest_difference_p_unsafe": max(
            abs(ours - theirs) for way in told for ours, theirs in zip(told["in_process"], told[way], strict=True)
        ),
        "items": items,
        "unary_concurrency": CONCURRENCY,
        "batch_size": BATCH,
        "batches_in_flight": BATCHES_IN_FLIGHT,
        "threads": threads,
        "workers": workers,
        "model": {"kind": moderator.engine.info.kind, "digest": moderator.engine.info.digest},
        "machine": {"cores": os.cpu_count(), "processor": processor(), "python": platform.python_version()},
        "packages": {name: version(name) for name in ("guard-service", "grpcio", "protobuf", "onnxruntime")},
    }


NAMES = {
    "in_process": "the engine in process, all texts at once",
    "unary": f"`Moderate`, {CONCURRENCY} at a time",
    "batch": f"`BatchModerate` of {BATCH}, {BATCHES_IN_FLIGHT} at a time",
    "rest": f"`POST /v1/check`, {CONCURRENCY} at a time",
}


def table(result: Mapping[str, Any]) -> str:
    """The speed table of docs/serving.md."""
    rows = []
    for way, name in NAMES.items():
        spent = result["cpu_ms_per_text"][way]
        server_ms = spent["in_process" if way == "in_process" else "server_and_engine"]
        client_ms, share = (
            ("", "") if way == "in_process" else (f"{spent['client']:.1f}", f"{result['cpu_ratio'][way]:.0%}")
        )
        rate, ratio = result["texts_per_second"][way], result["ratio_to_in_process"][way]
        rows.append(f"| {name} | {rate:.0f} | {ratio:.0%} | {server_ms:.1f} | {share} | {client_ms} |")
    alone, added, loaded = result["one_by_one_ms"], result["added_ms_p50"], result["at_0.8_of_unary_ms"]
    return "\n".join(
        [
            f"`{result['command']}`, {result['machine']['cores']} cores:",
            "",
            "| way | texts/s | of the engine's | CPU ms a text, server and engine | the engine's by that | client |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"One call after the other: p50 {alone['in_process']['p50']:.1f} ms in process, "
            f"{alone['unary']['p50']:.1f} by `Moderate` ({added['unary']:+.1f} text by text), "
            f"{alone['rest']['p50']:.1f} over HTTP ({added['rest']:+.1f}). At 0.8 of the unary rate: p50 "
            f"{loaded['p50']:.0f} ms, p99 {loaded['p99']:.0f} ms. Without calls: {result['idle_cpu_share']:.1%} of a "
            "core.",
        ]
    )


def processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", help="bundle folder or `fake`; without it the guard that ships in the package")
    options.add_argument("--items", type=int, default=1024)
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the model, in both processes")
    options.add_argument("--workers", type=int, default=1, help="of the server")
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args()
    result = asyncio.run(measure(given.model, given.items, given.threads, given.workers))
    command = f"python benchmarks/grpc_throughput.py --items {given.items} --threads {given.threads}"
    result = {"command": command, **result}
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    if given.out == RESULTS:
        publish(PAGE, "speed", table(result))
    for way, rate in result["texts_per_second"].items():
        ratio = result["cpu_ratio"].get(way, 1.0)
        share = result["ratio_to_in_process"][way]
        print(f"{way:<12}{rate:>10.1f} texts/s{share:>8.3f} of in-process{ratio:>8.3f} by CPU time")
    print(f"largest difference of p_unsafe: {result['largest_difference_p_unsafe']:.2g}; written to {given.out}")


if __name__ == "__main__":
    main()
