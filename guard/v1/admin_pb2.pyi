from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ReloadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadResponse(_message.Message):
    __slots__ = ("model_digest", "policy_id", "policy_digest")
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    model_digest: str
    policy_id: str
    policy_digest: str
    def __init__(self, model_digest: _Optional[str] = ..., policy_id: _Optional[str] = ..., policy_digest: _Optional[str] = ...) -> None: ...
