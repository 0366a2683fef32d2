"""The administration of a running server over gRPC."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message as Proto

from guard.serve.grpc.call import Context, Shared, handler
from guard.v1 import admin_pb2 as pb

SERVICE: str = pb.DESCRIPTOR.services_by_name["AdminService"].full_name


def handlers(shared: Shared) -> grpc.GenericRpcHandler[Proto, bytes]:
    """The handlers of the AdminService, which ask for the scope `admin`."""

    async def reload(sent: pb.ReloadRequest, context: Context) -> pb.ReloadResponse:
        info = (await shared.live.reload()).moderator.info
        return pb.ReloadResponse(model_digest=info.model, policy_id=info.policy.id, policy_digest=info.policy.digest)

    return grpc.method_handlers_generic_handler(SERVICE, {"Reload": handler(shared, "admin", reload, pb.ReloadRequest)})
