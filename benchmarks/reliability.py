"""What `guard serve` does when it is overloaded, loses its engine, is shut down, reloaded, cancelled, fed garbage and
not read from.

    python benchmarks/reliability.py [SCENARIO …] [--scale 0.02] [--out FILE]

Each scenario starts a server process of its own on this machine, with the shipped guard or the fake one, and says what
it saw; a server that hangs, dies or answers INTERNAL where it must not makes the command fail. `--scale 1` is the full
size (hours): a million cancelled calls and a million malformed inputs, 50 shutdowns, 100 reloads, a soak of 20 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from guards import core_count
from page import publish
from texts import made_up

from guard import AsyncGuardClient, Conversation, GuardError, document
from guard.errors import Overloaded
from guard.serve.core.audit import digest
from guard.serve.core.keys import new_key
from guard.v1 import moderation_pb2 as pb

RESULTS = Path(__file__).parent / "results" / "reliability.json"
PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
SERVICE = "/guard.v1.ModerationService/"
HELLO = Conversation.of("How do I bake bread?")
START_S, END_S = 60, 60
ANSWER_S = 20.0  # the deadline of a call
HANG_S = 10.0  # a call that has not ended so long after its deadline hangs


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    address: str
    url: str

    @property
    def rss_mb(self) -> float:
        """Of the server's own process, in which callers' data lie."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20

    @property
    def engine(self) -> psutil.Process:
        """The process that scores."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "spawn_main" in " ".join(child.cmdline()))

    def end(self) -> float:
        """Seconds from SIGTERM to the end; it must end well."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        if code := self.process.wait(END_S):
            raise SystemExit(f"the server ended with {code}")
        return time.monotonic() - begun


@contextmanager
def server(model: str | None = None, *options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "guard", "serve", "--port", "0", "--rest-port", "0", "--threads", "1", *options]
    command += ["--model", model] if model else []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            grpc_address, http = re.search(r"serving on (\S+)", line), re.search(r"http://[\w.:]+", line)
            if grpc_address is None or http is None:
                errors.seek(0)
                raise SystemExit(f"the server did not start: {line} {errors.read()[-2000:]}")
            yield Server(process, grpc_address[1], http[0])
        finally:
            process.kill()
            process.wait()


async def counted(calls: Counter[str], call: Awaitable[object]) -> None:
    """Counts how a call ended. One that does not end, by its deadline at the latest, is a hang."""
    try:
        async with asyncio.timeout(ANSWER_S + HANG_S):
            await call
        calls["ok"] += 1
    except TimeoutError:
        calls["hang"] += 1
    except Overloaded as error:
        calls["overloaded" if error.retry_after_s > 0 else "overloaded without a delay"] += 1
    except GuardError as error:
        calls[type(error).__name__] += 1


@asynccontextmanager
async def loaded(address: str, workers: int, **options: Any) -> AsyncIterator[Counter[str]]:
    """As many workers that ask without a pause until the block ends; how their calls ended."""
    calls: Counter[str] = Counter()
    texts = [Conversation.of(text) for text in made_up(512, longest=300)]
    async with AsyncGuardClient(address, ANSWER_S, **options) as client:

        async def work(number: int) -> None:
            while True:
                before = calls["ok"]
                await counted(calls, client.moderate(texts[(number * 37 + calls.total()) % len(texts)]))
                if calls["ok"] == before:
                    await asyncio.sleep(0.05)

        tasks = [asyncio.create_task(work(number)) for number in range(workers)]
        try:
            yield calls
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def timed(client: AsyncGuardClient, seconds: float, calls: Counter[str]) -> list[float]:
    """Milliseconds of one call after the other, ten a second."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        await counted(calls, client.moderate(HELLO))
        found.append(1e3 * (time.perf_counter() - begun))
        await asyncio.sleep(max(0.0, 0.1 - (time.perf_counter() - begun)))
    return found


def keys_of(folder: Path, *names: str) -> tuple[Path, dict[str, str]]:
    """A file of keys of these names, and the keys."""
    file, made = folder / "keys.yaml", {name: new_key(name, ("moderate",)) for name in names}
    file.write_text(document.dump({"keys": [{"name": name, "sha256": key.sha256} for name, (_, key) in made.items()]}))
    return file, {name: clear for name, (clear, _) in made.items()}


async def overload(scale: float) -> dict[str, Any]:
    """Five times what the model can do, from one client; what it still does, and what another client notices."""
    seconds = max(6.0, 60 * scale)
    with tempfile.TemporaryDirectory() as folder:
        file, keys = keys_of(Path(folder), "flood", "other")
        with server(None, "--api-keys", str(file), "--max-queue", "256") as one:
            async with AsyncGuardClient(one.address, ANSWER_S, api_key=keys["other"]) as other:
                alone = await timed(other, seconds / 3, Counter())
                async with loaded(one.address, 32, api_key=keys["flood"]) as calls:
                    await asyncio.sleep(1)
                    before, begun = calls["ok"], time.monotonic()
                    while calls["ok"] < before + 256 or time.monotonic() < begun + seconds / 2:
                        await asyncio.sleep(0.01)
                    capacity = (calls["ok"] - before) / (time.monotonic() - begun)
                flood: Counter[str] = Counter()
                beside: Counter[str] = Counter()
                async with AsyncGuardClient(one.address, ANSWER_S, api_key=keys["flood"]) as many:
                    sent: set[asyncio.Task[None]] = set()
                    texts = [Conversation.of(text) for text in made_up(512, longest=300)]

                    async def send() -> None:
                        begun, number = time.monotonic(), 0
                        while time.monotonic() - begun < seconds:
                            while number < 5 * capacity * (time.monotonic() - begun):
                                task = asyncio.create_task(counted(flood, many.moderate(texts[number % len(texts)])))
                                sent.add(task)
                                task.add_done_callback(sent.discard)
                                number += 1
                            await asyncio.sleep(0.005)

                    _, during = await asyncio.gather(send(), timed(other, seconds, beside))
                    good = flood["ok"] / seconds
                    over = time.monotonic()
                    while sent:
                        await asyncio.wait(set(sent))
                    await other.moderate(HELLO)
                    recovery = time.monotonic() - over
            one.end()
    return {
        "seconds": seconds,
        "capacity_per_s": capacity,
        "goodput_of_capacity": good / capacity,
        "answers": dict(flood),
        "other_client": {
            "answers": dict(beside),
            "p99_ms_alone": percentile(alone, 0.99),
            "p99_ms_beside": percentile(during, 0.99),
        },
        "recovery_s": recovery,
    }


async def shutdown(scale: float) -> dict[str, Any]:
    """SIGTERM under load: how calls end. The audit log says which texts were judged; whoever asked about one of those
    and got no verdict has lost an accepted call. A call of which it says nothing came too late."""
    calls: Counter[str] = Counter()
    seconds, judged, lost = [], 0, 0
    for _ in range(max(3, round(50 * scale))):
        with tempfile.TemporaryDirectory() as folder:
            audit, answered = Path(folder) / "audit.jsonl", set[str]()
            with server("fake", "--audit-log", str(audit)) as one:
                async with AsyncGuardClient(one.address, ANSWER_S) as client:

                    async def ask(
                        number: int, client: AsyncGuardClient = client, answered: set[str] = answered
                    ) -> None:
                        turn = 0
                        while True:
                            turn += 1
                            text = Conversation.of(f"text {number} {turn}")
                            before = calls["ok"]
                            await counted(calls, client.moderate(text))
                            if calls["ok"] > before:
                                answered.add(digest(text))
                            else:
                                await asyncio.sleep(0.05)

                    tasks = [asyncio.create_task(ask(number)) for number in range(32)]
                    while len(answered) < 200:
                        await asyncio.sleep(0.01)
                    seconds.append(await asyncio.get_running_loop().run_in_executor(None, one.end))
                    await asyncio.sleep(1)  # for the answers that are on their way
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
            lines = map(json.loads, audit.read_text(encoding="utf-8").splitlines())
            verdicts = {line["sha256"] for line in lines if line["outcome"] != "ERROR"}
            judged += len(verdicts)
            lost += len(verdicts - answered)
    return {
        "shutdowns": len(seconds),
        "answers": dict(calls),
        "judged": judged,
        "lost": lost,
        "longest_s": max(seconds),
    }


async def engine_kills(scale: float) -> dict[str, Any]:
    """kill -9 of the process that scores, under load: how calls end, and how soon health tells of it."""
    down, back = [], []
    with server() as one:
        async with loaded(one.address, 32) as calls, grpc.aio.insecure_channel(one.address) as channel:
            states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await states.read()
            for _ in range(max(3, round(20 * scale))):
                goal = calls["ok"] + 16
                while calls["ok"] < goal:
                    await asyncio.sleep(0.01)
                one.engine.kill()
                killed = time.monotonic()
                for times in (down, back):
                    await states.read()
                    times.append(time.monotonic() - killed)
            states.cancel()
        one.end()
    return {
        "kills": len(down),
        "answers": dict(calls),
        "not_serving_s": {"median": statistics.median(down), "longest": max(down)},
        "serving_again_s": {"median": statistics.median(back), "longest": max(back)},
    }


async def reload(scale: float) -> dict[str, Any]:
    """SIGHUP under load, again when the last reload has ended: no call notices."""
    count = max(5, round(100 * scale))
    with server("fake") as one:
        async with httpx.AsyncClient(base_url=one.url, trust_env=False) as http, loaded(one.address, 32) as calls:

            async def done(result: str) -> float:
                page = (await http.get("/metrics")).text
                found = re.search(rf'^guard_reloads_total{{result="{result}"}} (\S+)', page, re.MULTILINE)
                return float(found[1]) if found else 0.0

            begun = time.monotonic()
            for number in range(count):
                one.process.send_signal(signal.SIGHUP)
                while await done("ok") + await done("failed") <= number:
                    await asyncio.sleep(0.05)
            seconds, failed = (time.monotonic() - begun) / count, await done("failed")
        answers = dict(calls)
        one.end()
    return {"reloads": count, "failed": failed, "seconds_each": seconds, "answers": answers}


async def cancels(scale: float) -> dict[str, Any]:
    """Calls that are given up after a moment: nothing of them is left in the queue or in memory."""
    count = round(1_000_000 * scale)
    rng = random.Random(7)
    with server("fake") as one:
        async with AsyncGuardClient(one.address, ANSWER_S) as client:
            await client.moderate(HELLO)
            sizes = []
            for start in range(0, count, 500):
                tasks = [asyncio.create_task(client.moderate(HELLO)) for _ in range(min(500, count - start))]
                await asyncio.sleep(rng.random() * 0.01)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                sizes.append(one.rss_mb)
            await client.moderate(HELLO)
            async with httpx.AsyncClient(trust_env=False) as http:
                page = (await http.get(f"{one.url}/metrics")).text
        depth = re.search(r"^guard_queue_depth (\S+)", page, re.MULTILINE)
        one.end()
    warm = sizes[len(sizes) // 4]
    return {"cancelled": count, "left_in_queue": float(depth[1]) if depth else None, "rss_growth_mb": sizes[-1] - warm}


async def garbage(scale: float) -> dict[str, Any]:
    """Bytes that are no message, no JSON and no HTTP: refused, never INTERNAL, never a crash."""
    count, rng = round(1_000_000 * scale), random.Random(7)
    answers: Counter[str] = Counter()
    valid = pb.ModerateRequest(conversation={"messages": [{"role": "ROLE_USER", "content": "hello there"}]})
    bodies = {
        "/v1/moderations": {"input": ["hello"]},
        "/v1/check": {"messages": [{"role": "user", "content": "hello"}]},
        "/classify": {"input": "hello"},
        "/v1/decisions": {"input": "hello", "decisions": [{"name": "x", "type": "predicate", "predicate": "is rude"}]},
    }

    def mangled(data: bytes) -> bytes:
        made = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            place = rng.randrange(len(made) + 1)
            match rng.randrange(3):
                case 0:
                    made[place:place] = rng.randbytes(rng.randint(1, 6))
                case 1:
                    del made[place : place + rng.randint(1, 6)]
                case _:
                    made[place : place + 1] = rng.randbytes(1)
        return bytes(made)

    with server("fake") as one:
        async with grpc.aio.insecure_channel(one.address) as channel, httpx.AsyncClient(trust_env=False) as http:
            methods = [channel.unary_unary(SERVICE + name) for name in ("Moderate", "BatchModerate", "GetInfo")]

            async def proto() -> None:
                try:
                    await rng.choice(methods)(mangled(valid.SerializeToString()), timeout=ANSWER_S)
                    answers["grpc OK"] += 1
                except grpc.aio.AioRpcError as error:
                    answers[f"grpc {error.code().name}"] += 1

            async def plain() -> None:
                path, body = rng.choice(list(bodies.items()))
                sent = {"content": mangled(json.dumps(body).encode()), "headers": {"content-type": "application/json"}}
                answer = await http.post(one.url + path, timeout=ANSWER_S, **sent)  # type: ignore[arg-type]
                answers[f"http {answer.status_code // 100}xx"] += 1

            async def raw() -> None:
                """Not even HTTP, to either listener."""
                target = rng.choice([one.address, one.url.removeprefix("http://")])
                host, _, port = target.rpartition(":")
                _, writer = await asyncio.open_connection(host, int(port))
                with suppress(ConnectionError):
                    start = rng.choice([b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST /v1/check HTTP/1.1\r\n"])
                    writer.write(start + rng.randbytes(rng.randint(1, 200)))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
                answers["raw"] += 1

            kinds = [proto] * 10 + [plain] * 10 + [raw]
            for start in range(0, count, 50):
                await asyncio.gather(*(rng.choice(kinds)() for _ in range(min(50, count - start))))
        async with AsyncGuardClient(one.address, ANSWER_S) as client:
            await client.moderate(HELLO)  # it still answers
        one.end()
    bad = sum(
        n
        for name, n in answers.items()
        if name in ("grpc INTERNAL", "grpc UNKNOWN", "grpc DEADLINE_EXCEEDED", "http 5xx")
    )
    return {"inputs": count, "answers": dict(sorted(answers.items())), "failures": bad}


async def slow_readers(scale: float) -> dict[str, Any]:
    """Streams that write and never read, beside a client that does."""
    seconds, streams = max(5.0, 300 * scale), 200
    with server("fake") as one:
        async with AsyncGuardClient(one.address, ANSWER_S) as client, grpc.aio.insecure_channel(one.address) as channel:
            calls: Counter[str] = Counter()
            alone = await timed(client, 3, calls)
            before = one.rss_mb
            method = channel.stream_stream(
                f"{SERVICE}StreamModerate",
                request_serializer=pb.StreamModerateRequest.SerializeToString,
                response_deserializer=pb.StreamModerateResponse.FromString,
            )

            async def write() -> None:
                call = method()
                await call.write(pb.StreamModerateRequest(start={}))
                text = pb.StreamModerateRequest(text="This sentence is long enough to be judged. " * 20)
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    while True:
                        await call.write(text)

            tasks = [asyncio.create_task(write()) for _ in range(streams)]
            beside, growth = [], []
            for _ in range(2):
                beside += await timed(client, seconds / 2, calls)
                growth.append(one.rss_mb - before)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "streams": streams,
        "seconds": seconds,
        "rss_growth_mb": growth,
        "p99_ms_alone": percentile(alone, 0.99),
        "p99_ms_beside": percentile(beside, 0.99),
        "answers": dict(calls),
    }


async def unread(scale: float) -> dict[str, Any]:
    """Batches whose answers nobody reads, over one connection after the other, beside a client that reads."""
    connections, each = max(3, round(16 * scale)), 400
    request = pb.BatchModerateRequest(
        conversations=[{"messages": [{"role": "ROLE_USER", "content": f"text {number}"}]} for number in range(200)]
    ).SerializeToString()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    growth, answers = [], Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        file, keys = keys_of(Path(folder), "slow", "other")
        with server("fake", "--api-keys", str(file)) as one:
            async with AsyncGuardClient(one.address, ANSWER_S, api_key=keys["other"]) as other:
                beside: Counter[str] = Counter()
                await counted(beside, other.moderate(HELLO))
                before = one.rss_mb
                channels = [grpc.aio.insecure_channel(one.address, options=options) for _ in range(connections)]
                held = []
                for channel in channels:
                    for _ in range(each):
                        call = channel.unary_stream(f"{SERVICE}BatchModerate")(
                            request, metadata=[("authorization", f"Bearer {keys['slow']}")]
                        )
                        await call.initial_metadata()  # comes with the answer, or with the status of a refusal
                        answers[(await call.code()).name if call.done() else "unread"] += 1
                        held.append(call)
                    growth.append(one.rss_mb - before)
                    await counted(beside, other.moderate(HELLO))
                for channel in channels:
                    await channel.close()
            one.end()
    return {
        "connections": connections,
        "answers": dict(answers),
        "rss_growth_mb": [growth[0], growth[-1]],
        "other_client": dict(beside),
    }


async def soak(scale: float) -> dict[str, Any]:
    """About 70 % of what it can do for long: memory and latency stay where they are."""
    seconds = max(10.0, 1200 * scale)
    with server() as one:
        async with loaded(one.address, 32) as calls:
            await asyncio.sleep(3)
            before = calls["ok"]
            await asyncio.sleep(3)
            capacity = (calls["ok"] - before) / 3
        texts = [Conversation.of(text) for text in made_up(512, longest=300)]
        answers: Counter[str] = Counter()
        memory: list[tuple[float, float]] = []
        waits: list[float] = []
        async with AsyncGuardClient(one.address, ANSWER_S) as client:

            async def ask(number: int) -> None:
                begun = time.perf_counter()
                await counted(answers, client.moderate(texts[number % len(texts)]))
                waits.append(1e3 * (time.perf_counter() - begun))

            begun, number, tasks = time.monotonic(), 0, set()
            while (at := time.monotonic() - begun) < seconds:
                while number < 0.7 * capacity * at:
                    tasks.add(task := asyncio.create_task(ask(number)))
                    task.add_done_callback(tasks.discard)
                    number += 1
                memory.append((at / 3600, one.rss_mb))
                await asyncio.sleep(0.02)
            await asyncio.gather(*tasks)
        one.end()
    half = len(waits) // 2
    late = memory[len(memory) // 2 :]
    slope = statistics.linear_regression(*zip(*late, strict=True)).slope
    return {
        "seconds": seconds,
        "answers": dict(answers),
        "rss_mb": memory[-1][1],
        "rss_mb_per_hour_second_half": slope,
        "p99_ms": [percentile(waits[:half], 0.99), percentile(waits[half:], 0.99)],
    }


SCENARIOS: Mapping[str, Callable[[float], Awaitable[dict[str, Any]]]] = {
    each.__name__.replace("_", "-"): each
    for each in (overload, engine_kills, shutdown, reload, cancels, garbage, slow_readers, unread, soak)
}


def _answers(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(found.items(), key=lambda pair: -pair[1]))


def _overload(found: Mapping[str, Any]) -> str:
    other = found["other_client"]
    return (
        f"{found['goodput_of_capacity']:.0%} of its {found['capacity_per_s']:.0f} texts/s still answered over "
        f"{found['seconds']:.0f} s ({_answers(found['answers'])}); another client's p99 {other['p99_ms_alone']:.0f} → "
        f"{other['p99_ms_beside']:.0f} ms ({_answers(other['answers'])}); idle again after {found['recovery_s']:.1f} s"
    )


TOLD: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "overload": ("five times what the model can do, from one key", _overload),
    "engine-kills": (
        "kill -9 of the engine's process with 32 callers at work",
        lambda found: (
            f"{found['kills']} times: {_answers(found['answers'])}; health said so after at most "
            f"{found['not_serving_s']['longest']:.2f} s, and SERVING again after "
            f"{found['serving_again_s']['median']:.1f} s (at most {found['serving_again_s']['longest']:.1f})"
        ),
    ),
    "shutdown": (
        "SIGTERM with 32 callers at work",
        lambda found: (
            f"{found['shutdowns']} times: {_answers(found['answers'])}; of {found['judged']:,} that were judged "
            f"{found['lost']} lost their answer; at most {found['longest_s']:.1f} s to the end"
        ),
    ),
    "reload": (
        "SIGHUP with 32 callers at work",
        lambda found: (
            f"{found['reloads']} times ({found['failed']:.0f} failed), {found['seconds_each']:.1f} s each: "
            f"{_answers(found['answers'])}"
        ),
    ),
    "cancels": (
        "calls given up after a moment",
        lambda found: (
            f"{found['cancelled']:,}: {found['left_in_queue']:.0f} left in the queue, memory "
            f"{found['rss_growth_mb']:+.0f} MB"
        ),
    ),
    "garbage": (
        "messages, bodies and connections of random bytes",
        lambda found: f"{found['inputs']:,}: {found['failures']} failures of the server ({_answers(found['answers'])})",
    ),
    "slow-readers": (
        "streams that write and never read",
        lambda found: (
            f"{found['streams']} for {found['seconds']:.0f} s: memory {found['rss_growth_mb'][0]:+.0f} MB at half "
            f"time, {found['rss_growth_mb'][1]:+.0f} MB at the end; another client's p99 {found['p99_ms_alone']:.0f} → "
            f"{found['p99_ms_beside']:.0f} ms"
        ),
    ),
    "unread": (
        "batches whose answers nobody reads, from one key",
        lambda found: (
            f"{found['connections']} connections: {_answers(found['answers'])}; memory "
            f"{found['rss_growth_mb'][0]:+.0f} MB after the first, {found['rss_growth_mb'][1]:+.0f} MB after the last; "
            f"another key's calls: {_answers(found['other_client'])}"
        ),
    ),
    "soak": (
        "70 % of what it can do, for long",
        lambda found: (
            f"{found['seconds']:.0f} s: {_answers(found['answers'])}; p99 {found['p99_ms'][0]:.0f} → "
            f"{found['p99_ms'][1]:.0f} ms; memory {found['rss_mb_per_hour_second_half']:+.0f} MB an hour at last"
        ),
    ),
}


def table(report: Mapping[str, Any]) -> str:
    rows = [f"| {TOLD[name][0]} | {TOLD[name][1](found)} | `{found['command']}` |" for name, found in report.items()]
    return "\n".join(["| what | what was seen | command |", "|---|---|---|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--scale", type=float, default=0.02)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    for name in given.scenarios:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    report: dict[str, Any] = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    for name in given.scenarios or SCENARIOS:
        found = asyncio.run(SCENARIOS[name](given.scale))
        command = f"python benchmarks/reliability.py {name} --scale {given.scale:g}"
        report[name] = {"command": command, "cores": core_count(), **found}
        print(name, json.dumps(found, indent=2), flush=True)
        if found.get("answers", {}).get("hang") or found.get("lost"):
            raise SystemExit(f"{name}: calls hung, or accepted ones were lost")
        report = {each: report[each] for each in SCENARIOS if each in report}
        given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if given.out == RESULTS:
        publish(PAGE, "reliability", table(report))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
