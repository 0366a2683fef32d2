"""The administration of a running server, as its clients see it."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from guard.errors import ServiceError
from guard.serve.client import channel
from guard.serve.client.tls import Tls
from guard.serve.grpc.status import from_rpc
from guard.v1 import admin_pb2 as pb
from guard.v1.admin_pb2_grpc import AdminServiceStub


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The digest of the model that judges from now on, and its own policy."""

    model: str
    policy: str
    policy_digest: str


def reload(target: str, timeout_s: float, api_key: str | None = None, tls: Tls | None = None) -> Reloaded:
    """Lets the server at `target` load its model and policies again. api_key, tls: as GuardClient takes them.

    Raises ReloadFailed where it goes on with those that it had, ServiceError where it does not answer.
    """
    with channel.opened(target, tls) as to_server:
        stub = AdminServiceStub(to_server)  # type: ignore[no-untyped-call]
        try:
            answer = stub.Reload(pb.ReloadRequest(), timeout=timeout_s, metadata=channel.metadata(api_key))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise ServiceError(
                    f"{target}: it takes no administration, because it asks for no API keys; send its process SIGHUP"
                ) from None
            raise from_rpc(error, target, timeout_s) from None
    return Reloaded(answer.model_digest, answer.policy_id, answer.policy_digest)
