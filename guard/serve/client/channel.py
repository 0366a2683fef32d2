"""Options of a client's channel: retries and proxies."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from guard.errors import ConfigError
from guard.serve import loopback
from guard.serve.client.tls import Tls, credentials
from guard.serve.core.origin import HEADER, PRIORITIES, Priority
from guard.v1 import moderation_pb2, reward_pb2
from guard.v1.moderation_pb2_grpc import ModerationServiceStub
from guard.v1.reward_pb2_grpc import RewardServiceStub

_RETRIES = {
    "methodConfig": [
        {
            "name": [
                {"service": service.full_name}
                for descriptor in (moderation_pb2.DESCRIPTOR, reward_pb2.DESCRIPTOR)
                for service in descriptor.services_by_name.values()
            ],
            "retryPolicy": {  # never RESOURCE_EXHAUSTED: immediate retries would increase the overload
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 10,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # A budget: where more than about a tenth of the calls fail, they are not tried again, which would add to the load.
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
_TARGET = re.compile(
    r"(?:(?:dns|ipv4|ipv6):(?://[^/]*/)?)?(?:\[(?P<bracketed>[^]]+)\]|(?P<host>[^:/\[]+))(?::\d+)?", re.ASCII
)


def options(target: str) -> tuple[tuple[str, str | int], ...]:
    """Options of a channel to `target`.

    As everywhere in gRPC, the variables grpc_proxy, https_proxy and http_proxy name a proxy and no_proxy exceptions;
    but connections to this machine itself never use one.
    """
    retries = ("grpc.service_config", json.dumps(_RETRIES))
    return (retries, ("grpc.enable_http_proxy", 0)) if is_loopback(target) else (retries,)


def opened(target: str, tls: Tls | None) -> grpc.Channel:
    """A channel to `target`; tls as GuardClient takes it."""
    secret = credentials(tls)
    if secret is None:
        return grpc.insecure_channel(target, options=options(target))
    return grpc.secure_channel(target, secret, options=options(target))


def opened_async(target: str, tls: Tls | None) -> grpc.aio.Channel:
    """As `opened`, for asyncio."""
    secret = credentials(tls)
    if secret is None:
        return grpc.aio.insecure_channel(target, options=options(target))
    return grpc.aio.secure_channel(target, secret, options=options(target))


def methods(to_server: grpc.Channel | grpc.aio.Channel) -> Mapping[str, Callable[..., Any]]:
    """The methods of all services on a channel, by name; no two services have one of the same name."""
    return {**vars(ModerationServiceStub(to_server)), **vars(RewardServiceStub(to_server))}  # type: ignore[no-untyped-call]


def metadata(api_key: str | None, priority: Priority = "interactive") -> tuple[tuple[str, str], ...]:
    """The metadata of calls with an API key; None: that of the environment variable GUARD_API_KEY, if there is one.

    Raises ConfigError for an unknown priority.
    """
    if priority not in PRIORITIES:
        raise ConfigError(f"priority {priority!r} must be one of {', '.join(PRIORITIES)}")
    key = os.environ.get("GUARD_API_KEY") if api_key is None else api_key
    soon = () if priority == "interactive" else ((HEADER, priority),)
    return (*soon, ("authorization", f"Bearer {key}")) if key else soon


def is_loopback(target: str) -> bool:
    """Whether a gRPC target, like host:port, [::1]:port or dns:///host:port, is this machine itself."""
    match = _TARGET.fullmatch(target)
    if match is None:
        return False
    return loopback.is_loopback(match["bracketed"] or match["host"])
