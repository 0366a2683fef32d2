"""Waiting calls are served in turn between clients and by priority, over both listeners."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from guard import AsyncGuardClient, Conversation, document
from guard.errors import ConfigError, InvalidInput
from guard.serve.core.keys import new_key
from tests.fixtures.served import HeldEngine, serve

CROWD = 320  # calls: five batches
BATCH = 64


def keys(path: Path) -> tuple[str, str]:
    """The keys in the clear of two clients, in a file."""
    (one, first), (two, second) = new_key("one", ("moderate",)), new_key("two", ("moderate",))
    entries = [{"name": key.name, "sha256": key.sha256} for key in (first, second)]
    path.write_text(document.dump({"keys": entries}))
    return one, two


@pytest.mark.parametrize("crowd", ["another key", "batch"])
async def test_one_call_passes_a_crowd_of(tmp_path: Path, crowd: str) -> None:
    one, two = keys(tmp_path / "keys.yaml")
    engine = HeldEngine()
    async with serve(engine, api_keys=tmp_path / "keys.yaml", api_key=one) as served:
        queue = served.running.service.batcher
        own = two if crowd == "another key" else one
        priority = "batch" if crowd == "batch" else "interactive"
        async with AsyncGuardClient(served.running.address, api_key=own, priority=priority) as many:
            tasks = [
                asyncio.create_task(many.moderate(Conversation.of(f"crowd {number:04}"))) for number in range(CROWD)
            ]
            while queue.items < CROWD:
                await asyncio.sleep(0.01)
            tasks.append(asyncio.create_task(served.client.moderate(Conversation.of("alone 0000"))))
            while queue.items < CROWD + 1:
                await asyncio.sleep(0.01)
            engine.gate.set()
            await asyncio.gather(*tasks)
    place = next(index for index, text in enumerate(engine.scored) if b"alone" in text)
    assert place <= 2 * BATCH  # the first batch was at work already; the last of the crowd is at 319


async def test_an_unknown_priority_is_told() -> None:
    async with serve(rest=True) as served:
        with pytest.raises(ConfigError, match="priority 'urgent' must be one of interactive, batch"):
            AsyncGuardClient(served.running.address, priority="urgent")  # type: ignore[arg-type]
        async with AsyncGuardClient(served.running.address) as client:
            client._metadata = (("guard-priority", "urgent"),)
            with pytest.raises(InvalidInput, match="guard-priority 'urgent' must be one of interactive, batch"):
                await client.moderate(Conversation.of("hello"))
        async with httpx.AsyncClient(trust_env=False) as http:
            sent = {"input": "hello"}
            url = f"{served.running.rest_url}/v1/moderations"
            answer = await http.post(url, json=sent, headers={"guard-priority": "urgent"})
            assert answer.status_code == 400
            assert "guard-priority" in answer.json()["error"]["message"]
            assert (await http.post(url, json=sent, headers={"guard-priority": "batch"})).status_code == 200
