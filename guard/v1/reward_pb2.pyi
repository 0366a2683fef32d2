from google.rpc import status_pb2 as _status_pb2
from guard.v1 import moderation_pb2 as _moderation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Candidate(_message.Message):
    __slots__ = ("prompt", "response", "reference", "refusable", "client_id")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    REFUSABLE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    prompt: _containers.RepeatedCompositeFieldContainer[_moderation_pb2.Message]
    response: str
    reference: str
    refusable: bool
    client_id: str
    def __init__(self, prompt: _Optional[_Iterable[_Union[_moderation_pb2.Message, _Mapping]]] = ..., response: _Optional[str] = ..., reference: _Optional[str] = ..., refusable: _Optional[bool] = ..., client_id: _Optional[str] = ...) -> None: ...

class RewardOptions(_message.Message):
    __slots__ = ("components", "moderation")
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    MODERATION_FIELD_NUMBER: _ClassVar[int]
    components: _containers.RepeatedScalarFieldContainer[str]
    moderation: _moderation_pb2.ModerationOptions
    def __init__(self, components: _Optional[_Iterable[str]] = ..., moderation: _Optional[_Union[_moderation_pb2.ModerationOptions, _Mapping]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("candidate", "options")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    candidate: Candidate
    options: RewardOptions
    def __init__(self, candidate: _Optional[_Union[Candidate, _Mapping]] = ..., options: _Optional[_Union[RewardOptions, _Mapping]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("reward", "client_id")
    REWARD_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    reward: Reward
    client_id: str
    def __init__(self, reward: _Optional[_Union[Reward, _Mapping]] = ..., client_id: _Optional[str] = ...) -> None: ...

class BatchScoreRequest(_message.Message):
    __slots__ = ("candidates", "options")
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    options: RewardOptions
    def __init__(self, candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., options: _Optional[_Union[RewardOptions, _Mapping]] = ...) -> None: ...

class BatchScoreResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[BatchScoreItem]
    def __init__(self, items: _Optional[_Iterable[_Union[BatchScoreItem, _Mapping]]] = ...) -> None: ...

class BatchScoreItem(_message.Message):
    __slots__ = ("reward", "error", "client_id")
    REWARD_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    reward: Reward
    error: _status_pb2.Status
    client_id: str
    def __init__(self, reward: _Optional[_Union[Reward, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., client_id: _Optional[str] = ...) -> None: ...

class Reward(_message.Message):
    __slots__ = ("total", "components")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    total: float
    components: _containers.RepeatedCompositeFieldContainer[RewardComponent]
    def __init__(self, total: _Optional[float] = ..., components: _Optional[_Iterable[_Union[RewardComponent, _Mapping]]] = ...) -> None: ...

class RewardComponent(_message.Message):
    __slots__ = ("name", "score", "weight", "model_digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    score: RewardScore
    weight: float
    model_digest: str
    def __init__(self, name: _Optional[str] = ..., score: _Optional[_Union[RewardScore, _Mapping]] = ..., weight: _Optional[float] = ..., model_digest: _Optional[str] = ...) -> None: ...

class RewardScore(_message.Message):
    __slots__ = ("reward", "probability", "raw", "label_mass", "coverage", "rationale", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REWARD_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    LABEL_MASS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    RATIONALE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    reward: float
    probability: float
    raw: float
    label_mass: float
    coverage: float
    rationale: str
    attributes: _containers.ScalarMap[str, float]
    def __init__(self, reward: _Optional[float] = ..., probability: _Optional[float] = ..., raw: _Optional[float] = ..., label_mass: _Optional[float] = ..., coverage: _Optional[float] = ..., rationale: _Optional[str] = ..., attributes: _Optional[_Mapping[str, float]] = ...) -> None: ...

class CompareRequest(_message.Message):
    __slots__ = ("prompt", "first", "second", "component", "moderation")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    MODERATION_FIELD_NUMBER: _ClassVar[int]
    prompt: _containers.RepeatedCompositeFieldContainer[_moderation_pb2.Message]
    first: str
    second: str
    component: str
    moderation: _moderation_pb2.ModerationOptions
    def __init__(self, prompt: _Optional[_Iterable[_Union[_moderation_pb2.Message, _Mapping]]] = ..., first: _Optional[str] = ..., second: _Optional[str] = ..., component: _Optional[str] = ..., moderation: _Optional[_Union[_moderation_pb2.ModerationOptions, _Mapping]] = ...) -> None: ...

class CompareResponse(_message.Message):
    __slots__ = ("probability", "gap", "label_mass", "coverage", "rationale", "component", "model_digest")
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    LABEL_MASS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    RATIONALE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    probability: float
    gap: float
    label_mass: float
    coverage: float
    rationale: str
    component: str
    model_digest: str
    def __init__(self, probability: _Optional[float] = ..., gap: _Optional[float] = ..., label_mass: _Optional[float] = ..., coverage: _Optional[float] = ..., rationale: _Optional[str] = ..., component: _Optional[str] = ..., model_digest: _Optional[str] = ...) -> None: ...
