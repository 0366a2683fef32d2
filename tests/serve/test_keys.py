"""API keys: what opens what over gRPC and HTTP, rotation without restart, and that no key is kept in the clear."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from guard import AsyncGuardClient, Conversation, GuardClient, Outcome, document
from guard.cli import main
from guard.errors import ConfigError, PermissionDenied, Unauthenticated
from guard.serve.core.keys import Key, Keys, new_key
from guard.serve.http.table import TRANSLATORS
from tests.fixtures.served import serve
from tests.serve.http.test_app import SOUND, message_of

HELLO = Conversation.of("hello")


def write(path: Path, *valid: Key) -> Path:
    """A file of keys, put in place at once, as an editor or a secret's mount does it."""
    entries = [{"name": key.name, "sha256": key.sha256, "scopes": list(key.scopes)} for key in valid]
    fresh = path.with_suffix(".new")
    fresh.write_text(document.dump({"keys": entries}))
    os.replace(fresh, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_which_key_opens_what(file: Path) -> None:
    (clear, key), (page, scrape) = new_key("app", ("moderate",)), new_key("prometheus", ("metrics",))
    valid = Keys(write(file, key, scrape))
    valid.check(bearer(clear), "moderate")
    valid.check({"authorization": f"bearer {clear} "}, "moderate")
    valid.check({"x-api-key": clear}, "moderate")
    valid.check(bearer(page), "metrics")
    for headers in ({}, {"authorization": clear}, {"authorization": "Basic x"}, {"x-api-key": ""}):
        with pytest.raises(Unauthenticated, match="a key is required"):
            valid.check(headers, "moderate")
    for wrong in (clear[:-1], clear + "a", clear.upper(), key.sha256, "kumquat", "ü\ud800"):
        with pytest.raises(Unauthenticated, match="the key is not valid"):
            valid.check(bearer(wrong), "moderate")
    with pytest.raises(PermissionDenied, match="lacks the scope `metrics`"):
        valid.check(bearer(clear), "metrics")


def test_keys_are_long_random_and_never_kept(file: Path) -> None:
    made = [new_key("app", ("moderate",))[0] for _ in range(50)]
    assert len(set(made)) == 50
    assert all(re.fullmatch(r"guard_[A-Za-z0-9_-]{43}", each) for each in made)
    clear, key = new_key("app", ("moderate",))
    assert clear not in write(file, key).read_text() + repr(Keys(file).__dict__)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("keys: [{name: a}]", "sha256"),
        ("keys: [{name: a, sha256: abc}]", "keys.0.sha256"),
        ("keys: [{name: a, sha256: '" + "0" * 64 + "', scopes: [all]}]", "'moderate', 'metrics' or 'admin'"),
        ("kyes: []", "did you mean `keys`"),
    ],
)
def test_a_broken_file_is_refused_at_the_start(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(told)):
        Keys(file)
    with pytest.raises(ConfigError):
        Keys(file.with_name("none.yaml"))


def test_rotation_without_restart(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    (old, one), (new, two) = new_key("old", ("moderate",)), new_key("new", ("moderate",))
    valid = Keys(write(file, one), look_seconds=0)
    with pytest.raises(Unauthenticated):
        valid.check(bearer(new), "moderate")
    write(file, one, two)
    valid.check(bearer(new), "moderate")
    valid.check(bearer(old), "moderate")
    write(file, two)
    with pytest.raises(Unauthenticated):
        valid.check(bearer(old), "moderate")
    file.write_text("keys: [kumquat")
    valid.check(bearer(new), "moderate")
    file.unlink()
    valid.check(bearer(new), "moderate")
    assert "the keys that were read before stay valid" in caplog.text
    assert "kumquat" not in caplog.text


async def test_every_call_of_both_listeners_needs_a_key_and_health_does_not(file: Path) -> None:
    (clear, key), (page, scrape) = new_key("app", ("moderate",)), new_key("prometheus", ("metrics",))
    write(file, key, scrape)
    async with serve(rest=True, api_keys=file, api_key=clear) as served:
        running = served.running
        assert (await served.client.moderate(HELLO)).outcome is Outcome.SAFE
        assert (await served.client.info()).policy.id == "mlcommons"
        for wrong, error in (("", Unauthenticated), ("guard_x", Unauthenticated), (page, PermissionDenied)):
            async with AsyncGuardClient(running.address, api_key=wrong) as client:
                with pytest.raises(error):
                    await client.moderate(HELLO)
                with pytest.raises(error):
                    await client.info()
        async with grpc.aio.insecure_channel(running.address) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
        url = f"http://{running.rest_address}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            for each in TRANSLATORS:
                body: Any = SOUND[each.path]("hello")
                refused = await client.post(each.path, content=b"{", headers={"x-api-key": "kumquat"})
                assert (refused.status_code, message_of(each.path, refused)) == (401, "the key is not valid")
                denied = await client.post(each.path, json=body, headers={"x-api-key": page})
                assert denied.status_code == 403
                assert (await client.post(each.path, json=body, headers=bearer(clear))).status_code == 200
            assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
            assert (await client.get("/metrics")).status_code == 401
            assert (await client.get("/metrics", headers=bearer(page))).status_code == 200


def test_the_command_makes_a_key_and_the_clients_find_it_in_the_environment(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["keys", "new", "app", "--scope", "metrics", "--scope", "moderate"])
    assert ended.value.code == 0
    clear, _, entry = capsys.readouterr().out.partition("\n")
    file.write_text(entry)
    Keys(file).check(bearer(clear), "metrics")
    Keys(file).check(bearer(clear), "moderate")
    with pytest.raises(SystemExit) as ended:
        main(["keys", "new", "app", "--scope", "all"])
    assert ended.value.code == 2
    assert "allowed: moderate, metrics, admin" in capsys.readouterr().err
    monkeypatch.setenv("GUARD_API_KEY", clear)
    with GuardClient("127.0.0.1:1") as client:
        assert client._metadata == (("authorization", f"Bearer {clear}"),)
