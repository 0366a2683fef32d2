from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_USER: _ClassVar[Role]
    ROLE_ASSISTANT: _ClassVar[Role]
    ROLE_TOOL: _ClassVar[Role]
    ROLE_SYSTEM: _ClassVar[Role]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_STRICT: _ClassVar[Mode]
    MODE_BALANCED: _ClassVar[Mode]
    MODE_PERMISSIVE: _ClassVar[Mode]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_SAFE: _ClassVar[Outcome]
    OUTCOME_UNSAFE: _ClassVar[Outcome]
    OUTCOME_INCOMPLETE: _ClassVar[Outcome]

class Target(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TARGET_UNSPECIFIED: _ClassVar[Target]
    TARGET_PROMPT: _ClassVar[Target]
    TARGET_RESPONSE: _ClassVar[Target]

class Release(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELEASE_UNSPECIFIED: _ClassVar[Release]
    RELEASE_HOLD: _ClassVar[Release]
    RELEASE_OBSERVE: _ClassVar[Release]
ROLE_UNSPECIFIED: Role
ROLE_USER: Role
ROLE_ASSISTANT: Role
ROLE_TOOL: Role
ROLE_SYSTEM: Role
MODE_UNSPECIFIED: Mode
MODE_STRICT: Mode
MODE_BALANCED: Mode
MODE_PERMISSIVE: Mode
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_SAFE: Outcome
OUTCOME_UNSAFE: Outcome
OUTCOME_INCOMPLETE: Outcome
TARGET_UNSPECIFIED: Target
TARGET_PROMPT: Target
TARGET_RESPONSE: Target
RELEASE_UNSPECIFIED: Release
RELEASE_HOLD: Release
RELEASE_OBSERVE: Release

class Message(_message.Message):
    __slots__ = ("role", "content", "tool_calls", "unjudged")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    UNJUDGED_FIELD_NUMBER: _ClassVar[int]
    role: Role
    content: str
    tool_calls: _containers.RepeatedCompositeFieldContainer[ToolCall]
    unjudged: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., content: _Optional[str] = ..., tool_calls: _Optional[_Iterable[_Union[ToolCall, _Mapping]]] = ..., unjudged: _Optional[_Iterable[str]] = ...) -> None: ...

class ToolCall(_message.Message):
    __slots__ = ("name", "arguments")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    arguments: str
    def __init__(self, name: _Optional[str] = ..., arguments: _Optional[str] = ...) -> None: ...

class Conversation(_message.Message):
    __slots__ = ("messages", "client_id")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    client_id: str
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., client_id: _Optional[str] = ...) -> None: ...

class ModerationOptions(_message.Message):
    __slots__ = ("policy_name", "policy_yaml", "exclude", "mode")
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_YAML_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    policy_name: str
    policy_yaml: str
    exclude: _containers.RepeatedScalarFieldContainer[str]
    mode: Mode
    def __init__(self, policy_name: _Optional[str] = ..., policy_yaml: _Optional[str] = ..., exclude: _Optional[_Iterable[str]] = ..., mode: _Optional[_Union[Mode, str]] = ...) -> None: ...

class ModerateRequest(_message.Message):
    __slots__ = ("conversation", "options")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    conversation: Conversation
    options: ModerationOptions
    def __init__(self, conversation: _Optional[_Union[Conversation, _Mapping]] = ..., options: _Optional[_Union[ModerationOptions, _Mapping]] = ...) -> None: ...

class ModerateResponse(_message.Message):
    __slots__ = ("verdict", "client_id")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    client_id: str
    def __init__(self, verdict: _Optional[_Union[Verdict, _Mapping]] = ..., client_id: _Optional[str] = ...) -> None: ...

class BatchModerateRequest(_message.Message):
    __slots__ = ("conversations", "options")
    CONVERSATIONS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    conversations: _containers.RepeatedCompositeFieldContainer[Conversation]
    options: ModerationOptions
    def __init__(self, conversations: _Optional[_Iterable[_Union[Conversation, _Mapping]]] = ..., options: _Optional[_Union[ModerationOptions, _Mapping]] = ...) -> None: ...

class BatchModerateResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[BatchItem]
    def __init__(self, items: _Optional[_Iterable[_Union[BatchItem, _Mapping]]] = ...) -> None: ...

class BatchItem(_message.Message):
    __slots__ = ("verdict", "error", "client_id")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    error: _status_pb2.Status
    client_id: str
    def __init__(self, verdict: _Optional[_Union[Verdict, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., client_id: _Optional[str] = ...) -> None: ...

class StreamModerateRequest(_message.Message):
    __slots__ = ("start", "text", "utf8", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    UTF8_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: StreamStart
    text: str
    utf8: bytes
    end: StreamEnd
    def __init__(self, start: _Optional[_Union[StreamStart, _Mapping]] = ..., text: _Optional[str] = ..., utf8: _Optional[bytes] = ..., end: _Optional[_Union[StreamEnd, _Mapping]] = ...) -> None: ...

class StreamStart(_message.Message):
    __slots__ = ("context", "options", "release", "check_characters", "check_seconds", "tail_characters", "stop_after_checks", "sure_log_odds")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    CHECK_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    CHECK_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TAIL_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    STOP_AFTER_CHECKS_FIELD_NUMBER: _ClassVar[int]
    SURE_LOG_ODDS_FIELD_NUMBER: _ClassVar[int]
    context: _containers.RepeatedCompositeFieldContainer[Message]
    options: ModerationOptions
    release: Release
    check_characters: int
    check_seconds: float
    tail_characters: int
    stop_after_checks: int
    sure_log_odds: float
    def __init__(self, context: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., options: _Optional[_Union[ModerationOptions, _Mapping]] = ..., release: _Optional[_Union[Release, str]] = ..., check_characters: _Optional[int] = ..., check_seconds: _Optional[float] = ..., tail_characters: _Optional[int] = ..., stop_after_checks: _Optional[int] = ..., sure_log_odds: _Optional[float] = ...) -> None: ...

class StreamEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamModerateResponse(_message.Message):
    __slots__ = ("released", "verdict", "error", "start_characters", "end_characters", "hold_back_characters", "final", "stopped")
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    START_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    END_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    HOLD_BACK_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    released: str
    verdict: Verdict
    error: _status_pb2.Status
    start_characters: int
    end_characters: int
    hold_back_characters: int
    final: bool
    stopped: bool
    def __init__(self, released: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., start_characters: _Optional[int] = ..., end_characters: _Optional[int] = ..., hold_back_characters: _Optional[int] = ..., final: _Optional[bool] = ..., stopped: _Optional[bool] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("outcome", "target", "p_unsafe", "threshold", "categories", "flagged", "p_refusal", "coverage", "policy_digest", "model_digest", "timings", "unjudged", "decided_by", "monitor", "language")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    P_UNSAFE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    P_REFUSAL_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    UNJUDGED_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    MONITOR_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    target: Target
    p_unsafe: float
    threshold: float
    categories: _containers.RepeatedCompositeFieldContainer[CategoryScore]
    flagged: _containers.RepeatedScalarFieldContainer[str]
    p_refusal: float
    coverage: Coverage
    policy_digest: str
    model_digest: str
    timings: Timings
    unjudged: _containers.RepeatedScalarFieldContainer[str]
    decided_by: str
    monitor: Monitor
    language: Language
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., target: _Optional[_Union[Target, str]] = ..., p_unsafe: _Optional[float] = ..., threshold: _Optional[float] = ..., categories: _Optional[_Iterable[_Union[CategoryScore, _Mapping]]] = ..., flagged: _Optional[_Iterable[str]] = ..., p_refusal: _Optional[float] = ..., coverage: _Optional[_Union[Coverage, _Mapping]] = ..., policy_digest: _Optional[str] = ..., model_digest: _Optional[str] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., unjudged: _Optional[_Iterable[str]] = ..., decided_by: _Optional[str] = ..., monitor: _Optional[_Union[Monitor, _Mapping]] = ..., language: _Optional[_Union[Language, _Mapping]] = ...) -> None: ...

class Language(_message.Message):
    __slots__ = ("code", "probability", "supported")
    CODE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_FIELD_NUMBER: _ClassVar[int]
    code: str
    probability: float
    supported: bool
    def __init__(self, code: _Optional[str] = ..., probability: _Optional[float] = ..., supported: _Optional[bool] = ...) -> None: ...

class Monitor(_message.Message):
    __slots__ = ("codes", "outcome", "flagged", "p_enforced")
    CODES_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    P_ENFORCED_FIELD_NUMBER: _ClassVar[int]
    codes: _containers.RepeatedScalarFieldContainer[str]
    outcome: Outcome
    flagged: _containers.RepeatedScalarFieldContainer[str]
    p_enforced: float
    def __init__(self, codes: _Optional[_Iterable[str]] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., flagged: _Optional[_Iterable[str]] = ..., p_enforced: _Optional[float] = ...) -> None: ...

class CategoryScore(_message.Message):
    __slots__ = ("code", "probability")
    CODE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    code: str
    probability: float
    def __init__(self, code: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("seen_tokens", "total_tokens", "windows", "worst_start_characters", "worst_end_characters")
    SEEN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    WORST_START_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    WORST_END_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    seen_tokens: int
    total_tokens: int
    windows: int
    worst_start_characters: int
    worst_end_characters: int
    def __init__(self, seen_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ..., windows: _Optional[int] = ..., worst_start_characters: _Optional[int] = ..., worst_end_characters: _Optional[int] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("tokenize_ms", "queue_ms", "infer_ms")
    TOKENIZE_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    tokenize_ms: float
    queue_ms: float
    infer_ms: float
    def __init__(self, tokenize_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ...) -> None: ...

class GetInfoRequest(_message.Message):
    __slots__ = ("options",)
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    options: ModerationOptions
    def __init__(self, options: _Optional[_Union[ModerationOptions, _Mapping]] = ...) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("version", "model_digest", "model_kind", "policy", "mode", "limits", "thresholds")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_KIND_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    version: str
    model_digest: str
    model_kind: str
    policy: PolicyInfo
    mode: Mode
    limits: Limits
    thresholds: _containers.RepeatedCompositeFieldContainer[Thresholds]
    def __init__(self, version: _Optional[str] = ..., model_digest: _Optional[str] = ..., model_kind: _Optional[str] = ..., policy: _Optional[_Union[PolicyInfo, _Mapping]] = ..., mode: _Optional[_Union[Mode, str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., thresholds: _Optional[_Iterable[_Union[Thresholds, _Mapping]]] = ...) -> None: ...

class PolicyInfo(_message.Message):
    __slots__ = ("id", "version", "digest", "codes", "names", "yaml", "name")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: str
    digest: str
    codes: _containers.RepeatedScalarFieldContainer[str]
    names: _containers.RepeatedScalarFieldContainer[str]
    yaml: str
    name: str
    def __init__(self, id: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., codes: _Optional[_Iterable[str]] = ..., names: _Optional[_Iterable[str]] = ..., yaml: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ListPoliciesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPoliciesResponse(_message.Message):
    __slots__ = ("policies",)
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[PolicyInfo]
    def __init__(self, policies: _Optional[_Iterable[_Union[PolicyInfo, _Mapping]]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: PolicyInfo
    def __init__(self, policy: _Optional[_Union[PolicyInfo, _Mapping]] = ...) -> None: ...

class Thresholds(_message.Message):
    __slots__ = ("target", "unsafe", "categories")
    class CategoriesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    UNSAFE_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    target: Target
    unsafe: float
    categories: _containers.ScalarMap[str, float]
    def __init__(self, target: _Optional[_Union[Target, str]] = ..., unsafe: _Optional[float] = ..., categories: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("request_bytes", "conversation_characters", "conversation_messages", "batch_conversations", "policy_characters", "exclude_codes", "request_seconds", "queue_windows", "queue_tokens", "streams", "stream_seconds")
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BATCH_CONVERSATIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_CODES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    STREAM_SECONDS_FIELD_NUMBER: _ClassVar[int]
    request_bytes: int
    conversation_characters: int
    conversation_messages: int
    batch_conversations: int
    policy_characters: int
    exclude_codes: int
    request_seconds: float
    queue_windows: int
    queue_tokens: int
    streams: int
    stream_seconds: float
    def __init__(self, request_bytes: _Optional[int] = ..., conversation_characters: _Optional[int] = ..., conversation_messages: _Optional[int] = ..., batch_conversations: _Optional[int] = ..., policy_characters: _Optional[int] = ..., exclude_codes: _Optional[int] = ..., request_seconds: _Optional[float] = ..., queue_windows: _Optional[int] = ..., queue_tokens: _Optional[int] = ..., streams: _Optional[int] = ..., stream_seconds: _Optional[float] = ...) -> None: ...
