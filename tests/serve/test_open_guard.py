"""open_guard: a bundle in this process or a running service, behind one protocol."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from guard import Category, Conversation, Policy, Verdict
from guard.errors import ConfigError, PolicyError, ServiceError
from guard.moderator import Guard, GuardInfo
from guard.policy import dump
from guard.serve.client import open_guard
from guard.verdict import Timings
from tests.fixtures.served import serve

OWN = Policy("own-id", "1", "Own", (Category("X1", "Things", "The first."), Category("X2", "Others", "The second.")))
TEXTS = [Conversation.of(text) for text in ("hello", "violates:S1", "violates:X2")]


def plain(answers: Sequence[object]) -> list[object]:
    return [
        dataclasses.replace(one, timings=Timings()) if isinstance(one, Verdict) else (type(one), str(one))
        for one in answers
    ]


def used(opened: Guard, **options: Any) -> tuple[GuardInfo, list[object]]:
    with opened:
        info = opened.info
        return (
            GuardInfo(*(getattr(info, field.name) for field in dataclasses.fields(GuardInfo))),
            plain(opened.moderate_each(TEXTS, **options)),
        )


@pytest.mark.parametrize(
    ("opening", "options"),
    [
        ({}, {}),
        ({"policy": "openai", "mode": "strict"}, {}),
        ({"policy": "openai"}, {"policy": OWN, "exclude": ["X1"], "mode": "permissive"}),
        ({"policy": "FILE"}, {"exclude": ["X2"]}),
    ],
)
async def test_a_server_and_a_bundle_are_the_same_guard(opening: dict, options: dict, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(dump(OWN))
    opening = {key: file if value == "FILE" else value for key, value in opening.items()}
    async with serve() as served:
        remote = await asyncio.to_thread(used, open_guard(server=served.running.address, **opening), **options)
    assert remote == used(open_guard("fake", **opening), **options)


async def test_the_servers_own_policy_goes_by_its_id_and_tells_the_names_of_its_categories() -> None:
    def asked(policy: str) -> tuple[Policy, list[object]]:
        with open_guard(server=address, policy=policy) as opened:
            return opened.info.policy, opened.moderate_each([Conversation.of("violates:X2")])

    async with serve(policy=OWN) as served:
        address = served.running.address
        policy, (verdict,) = await asyncio.to_thread(asked, "own-id")
        with pytest.raises(PolicyError, match=r"known: aegis2, .*own-id"):
            await asyncio.to_thread(asked, "nobodys")
    assert policy == OWN
    assert isinstance(verdict, Verdict)
    assert [policy.category(code).name for code in verdict.flagged] == ["Others"]


@pytest.mark.parametrize(
    ("opening", "error", "told"),
    [
        ({"model": "fake", "server": "localhost:1"}, ConfigError, "give either `server`, or `model` and `threads`"),
        ({"threads": 2, "server": "localhost:1"}, ConfigError, "give either"),
        ({"server": "localhost:1", "policy": "./missing.yaml"}, PolicyError, "missing.yaml"),
        ({"server": "localhost:1", "mode": "lenient"}, ConfigError, "strict, balanced, permissive"),
        ({"model": "fake", "mode": "lenient"}, ConfigError, "strict, balanced, permissive"),
        ({"model": "fake", "policy": "nobodys"}, PolicyError, "no shipped policy 'nobodys'"),
    ],
)
def test_options_that_cannot_be_followed(opening: dict, error: type, told: str) -> None:
    with pytest.raises(error, match=told):
        open_guard(**opening)


def test_a_server_that_is_not_there() -> None:
    with open_guard(server="127.0.0.1:1") as opened:
        (answer,) = opened.moderate_each(TEXTS[:1])
        assert isinstance(answer, ServiceError)
        with pytest.raises(ServiceError, match=r"127.0.0.1:1: cannot be reached: .*; is `guard serve` running there\?"):
            _ = opened.info


def test_a_guard_in_this_process_loads_no_grpc() -> None:
    code = "import sys, guard; guard.open_guard('fake').close(); print('grpc' in sys.modules, 'google' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
