"""What the gRPC service costs: texts a second in process, by unary calls and by batches, in one run on one machine.

The server is a process of its own (`guard serve`); the texts are made up, of mixed lengths, all different. Every way
is measured once a round, in turn, and the median round counts. The verdicts of all ways must agree.

    python benchmarks/grpc_throughput.py [--model BUNDLE|fake] [--items N]
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
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from texts import made_up

from guard import AsyncGuardClient, Conversation, Verdict, open_moderator

RESULTS = Path(__file__).parent / "results" / "grpc_throughput.json"
CONCURRENCY, BATCH, BATCHES_IN_FLIGHT, ROUNDS = 64, 32, 4, 3


@contextmanager
def server(model: str | None, threads: int, *more: str) -> Iterator[tuple[str, str]]:
    """The addresses of a `guard serve` that ends with the block: of gRPC, and the URL of HTTP if there is one."""
    command = [sys.executable, "-m", "guard", "serve", "--port", "0", "--threads", str(threads), *more]
    process = subprocess.Popen([*command, "--model", model] if model else command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = re.search(r"serving on (\S+)(?: and (http\S+))?", process.stdout.readline())
        if ready is None:
            raise SystemExit("the server did not start; its error is above")
        yield ready[1], ready[2] or ""
    finally:
        process.terminate()
        process.wait()


async def unary(client: AsyncGuardClient, texts: list[Conversation]) -> list[Verdict]:
    turn = asyncio.Semaphore(CONCURRENCY)

    async def one(text: Conversation) -> Verdict:
        async with turn:
            return await client.moderate(text)

    return await asyncio.gather(*map(one, texts))


async def batched(client: AsyncGuardClient, texts: list[Conversation]) -> list[Verdict]:
    turn = asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def one(start: int) -> list[Verdict]:
        async with turn:
            answers = await client.moderate_each(texts[start : start + BATCH])
        for answer in answers:
            if not isinstance(answer, Verdict):
                raise answer
        return answers  # type: ignore[return-value]

    parts = await asyncio.gather(*map(one, range(0, len(texts), BATCH)))
    return [verdict for part in parts for verdict in part]


async def measure(model: str | None, items: int, threads: int) -> dict[str, object]:
    texts = [Conversation.of(text) for text in made_up(items, longest=800)]
    moderator = open_moderator(model, threads=threads)
    seconds: dict[str, list[float]] = {}
    verdicts: dict[str, list[Verdict]] = {}

    async def timed(way: str, work: Callable[[], Awaitable[list[Verdict]]]) -> None:
        started = time.perf_counter()
        verdicts[way] = await work()
        seconds.setdefault(way, []).append(time.perf_counter() - started)

    async def in_process() -> list[Verdict]:
        return moderator.moderate(texts)

    with server(model, threads) as (address, _):
        async with AsyncGuardClient(address, timeout_s=300) as client:
            moderator.moderate(texts[:64])
            await unary(client, texts[:64])
            for _ in range(ROUNDS):
                await timed("in_process", in_process)
                await timed("unary", lambda: unary(client, texts))
                await timed("batch", lambda: batched(client, texts))
    worst = max(
        abs(ours.p_unsafe - theirs.p_unsafe)
        for way in ("unary", "batch")
        for ours, theirs in zip(verdicts["in_process"], verdicts[way], strict=True)
    )
    rates = {way: round(items / statistics.median(taken), 1) for way, taken in seconds.items()}
    return {
        "texts_per_second": rates,
        "ratio_to_in_process": {way: round(rate / rates["in_process"], 3) for way, rate in rates.items()},
        "seconds": {way: [round(each, 3) for each in taken] for way, taken in seconds.items()},
        "largest_difference_p_unsafe": worst,
        "items": items,
        "unary_concurrency": CONCURRENCY,
        "batch_size": BATCH,
        "batches_in_flight": BATCHES_IN_FLIGHT,
        "threads": threads,
        "model": {"kind": moderator.engine.info.kind, "digest": moderator.engine.info.digest},
        "machine": {"cores": os.cpu_count(), "processor": processor(), "python": platform.python_version()},
        "packages": {name: version(name) for name in ("guard-service", "grpcio", "protobuf", "onnxruntime")},
    }


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
    given = options.parse_args()
    result = asyncio.run(measure(given.model, given.items, given.threads))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    rates, ratios = result["texts_per_second"], result["ratio_to_in_process"]
    for way, rate in rates.items():  # type: ignore[attr-defined]
        print(f"{way:<12}{rate:>10.1f} texts/s{ratios[way]:>8.3f} of in-process")  # type: ignore[index]
    print(f"largest difference of p_unsafe: {result['largest_difference_p_unsafe']:.2g}; written to {RESULTS}")


if __name__ == "__main__":
    main()
