"""Verdicts from a `guard serve` over gRPC: blocking, with asyncio, and on a reply that is still being written.

guard serve --port 50051 &
python examples/grpc_client.py 127.0.0.1:50051 "How do I boil an egg?" "How do I bake bread?"
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from guard import AsyncGuardClient, Conversation, GuardClient, GuardError, Message, Verdict


def one_by_one(target: str, texts: Sequence[str]) -> None:
    """`blocks` is the fail-closed answer for callers that only need yes or no."""
    with GuardClient(target, policy="mlcommons", timeout_s=10, on_error="block") as guard:
        print(f"server: policy {guard.info.policy.id}, mode {guard.info.mode}")
        for text in texts:
            print("blocking:", "blocked" if guard.blocks(Conversation.of(text)) else "passed")


async def concurrently(target: str, texts: Sequence[str]) -> None:
    """`moderate` raises what went wrong, so that a failure is never taken for a verdict."""
    async with AsyncGuardClient(target, timeout_s=10) as guard:
        conversations = [Conversation.of(text) for text in texts]
        answers = await asyncio.gather(*map(guard.moderate, conversations), return_exceptions=True)
        for answer in answers:
            match answer:
                case Verdict():
                    print("asyncio:", answer.outcome.name, *answer.flagged)
                case GuardError():
                    print("asyncio: no verdict:", type(answer).__name__)
                case _:
                    raise answer


async def written(reply: str) -> AsyncIterator[str]:
    """Stands in for the deltas of a chat model."""
    for start in range(0, len(reply), 8):
        yield reply[start : start + 8]


async def while_written(target: str, prompt: str, reply: str) -> None:
    """Shows only what a verdict of SAFE covers."""
    async with AsyncGuardClient(target) as guard:
        progresses = guard.stream(written(reply), context=[Message("user", prompt)])
        shown, ending = "", "unfinished"
        async with aclosing(progresses):
            async for progress in progresses:
                shown += progress.released
                if progress.stopped or progress.final:
                    ending = "stopped" if progress.stopped else "complete"
        print(f"stream: {ending}, {len(shown)} of {len(reply)} characters shown")


if __name__ == "__main__":
    target, *texts = sys.argv[1:]
    one_by_one(target, texts)
    asyncio.run(concurrently(target, texts))
    asyncio.run(while_written(target, "How do I boil an egg?", " ".join(texts)))
