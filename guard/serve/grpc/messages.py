"""Conversions between protobuf messages and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from guard import policy as policies
from guard.calibration import MODES, Mode
from guard.conversation import ROLES, Conversation, Message, Role, Target
from guard.errors import ConfigError, GuardError, InvalidInput, PolicyError, ServiceError
from guard.message import call_text
from guard.policy import Policy
from guard.serve.core.info import ServiceInfo
from guard.serve.core.request import Options, PolicyText
from guard.serve.grpc.status import from_status, to_status
from guard.serve.limits import Limits
from guard.v1 import moderation_pb2 as pb
from guard.verdict import Coverage, Language, Monitor, Outcome, Timings, Verdict

_ROLE_NUMBERS = {role: getattr(pb, f"ROLE_{role.upper()}") for role in ROLES}
_MODE_NUMBERS = {mode: getattr(pb, f"MODE_{mode.upper()}") for mode in MODES}
_OUTCOME_NUMBERS = {outcome: getattr(pb, f"OUTCOME_{outcome.name}") for outcome in Outcome}
_TARGET_NUMBERS = {target: getattr(pb, f"TARGET_{target.name}") for target in Target}
_ROLES: dict[int, Role] = {number: role for role, number in _ROLE_NUMBERS.items()}
_MODES: dict[int, Mode] = {number: mode for mode, number in _MODE_NUMBERS.items()}
_OUTCOMES = {number: outcome for outcome, number in _OUTCOME_NUMBERS.items()}
_TARGETS = {number: target for target, number in _TARGET_NUMBERS.items()}
CLIENT_ID_CHARACTERS = 128


def conversation_to_proto(conversation: Conversation) -> pb.Conversation:
    return pb.Conversation(messages=map(message_to_proto, conversation.messages))


def message_to_proto(message: Message) -> pb.Message:
    return pb.Message(role=_ROLE_NUMBERS[message.role], content=message.content, unjudged=message.unjudged)


def conversation_from_proto(sent: pb.Conversation) -> Conversation | InvalidInput:
    """The conversation of a message, or the error if it is invalid."""
    if len(sent.client_id) > CLIENT_ID_CHARACTERS:
        return InvalidInput(f"client_id has {len(sent.client_id)} characters, must be <= {CLIENT_ID_CHARACTERS}")
    try:
        return Conversation(messages_from_proto(sent.messages, "messages"))
    except InvalidInput as error:
        return error


def messages_from_proto(sent: Sequence[pb.Message], name: str) -> tuple[Message, ...]:
    """The messages of a field. Raises InvalidInput."""
    for index, message in enumerate(sent):
        if message.role not in _ROLES:
            raise InvalidInput(
                f"{name}[{index}] has role {int(message.role)}; allowed: {', '.join(pb.Role.keys()[1:])}"
            )
        if any(len(each) > CLIENT_ID_CHARACTERS for each in message.unjudged):
            raise InvalidInput(f"{name}[{index}].unjudged must be texts of <= {CLIENT_ID_CHARACTERS} characters")
    return tuple(map(_message_from_proto, sent))


def _message_from_proto(sent: pb.Message) -> Message:
    lines = [sent.content, *(call_text(call.name, call.arguments) for call in sent.tool_calls)]
    content = "\n".join(filter(None, lines))
    # Engines need some text to judge.
    return Message(_ROLES[sent.role], content or "[not text]" * bool(sent.unjudged), tuple(sent.unjudged))


def options_from_proto(sent: pb.ModerationOptions) -> Options:
    """The options of a message; InvalidInput for an unknown mode."""
    if sent.mode != pb.MODE_UNSPECIFIED and sent.mode not in _MODES:
        raise InvalidInput(f"mode is {int(sent.mode)}; allowed: {', '.join(pb.Mode.keys())}")
    which = sent.WhichOneof("policy")
    policy = PolicyText(sent.policy_yaml) if which == "policy_yaml" else (sent.policy_name if which else None)
    return Options(policy, tuple(sent.exclude), _MODES.get(sent.mode))


def options_to_proto(policy: Policy | str | None, exclude: Collection[str], mode: Mode | None) -> pb.ModerationOptions:
    """policy: a name that the server knows, or the caller's own policy, which is sent whole."""
    if mode is not None and mode not in MODES:
        raise ConfigError(f"unknown mode {mode!r}; allowed: {', '.join(MODES)}")
    options = pb.ModerationOptions(exclude=list(exclude))
    if mode is not None:
        options.mode = _MODE_NUMBERS[mode]
    if isinstance(policy, Policy):
        options.policy_yaml = policies.dump(policy)
    elif policy is not None:
        options.policy_name = policy
    return options


def verdict_to_proto(verdict: Verdict) -> pb.Verdict:
    coverage, timings = verdict.coverage, verdict.timings
    return pb.Verdict(
        outcome=_OUTCOME_NUMBERS[verdict.outcome],
        target=_TARGET_NUMBERS[verdict.target],
        p_unsafe=verdict.p_unsafe,
        threshold=verdict.threshold,
        categories=[pb.CategoryScore(code=code, probability=p) for code, p in verdict.categories.items()],
        flagged=verdict.flagged,
        p_refusal=verdict.p_refusal,
        coverage=pb.Coverage(
            seen_tokens=coverage.tokens_seen,
            total_tokens=coverage.tokens_total,
            windows=coverage.windows,
            worst_start_characters=coverage.worst_start,
            worst_end_characters=coverage.worst_end,
        ),
        policy_digest=verdict.policy,
        model_digest=verdict.model,
        timings=pb.Timings(tokenize_ms=timings.tokenize_ms, queue_ms=timings.queue_ms, infer_ms=timings.infer_ms),
        unjudged=verdict.unjudged,
        decided_by=verdict.decided_by,
        language=None
        if verdict.language is None
        else pb.Language(
            code=verdict.language.code,
            probability=verdict.language.probability,
            supported=verdict.language.supported,
        ),
        monitor=None
        if verdict.monitor is None
        else pb.Monitor(
            codes=verdict.monitor.codes,
            outcome=_OUTCOME_NUMBERS[verdict.monitor.outcome],
            flagged=verdict.monitor.flagged,
            p_enforced=verdict.monitor.p_enforced,
        ),
    )


def verdict_from_proto(sent: pb.Verdict) -> Verdict:
    """The verdict of a message; ServiceError if its outcome or target is unknown, since it must not pass as safe."""
    if sent.outcome not in _OUTCOMES or sent.target not in _TARGETS:
        raise ServiceError(
            f"the server sent outcome {int(sent.outcome)} and target {int(sent.target)}, which this version does not "
            "know; upgrade guard-service"
        )
    coverage, timings = sent.coverage, sent.timings
    return Verdict(
        outcome=_OUTCOMES[sent.outcome],
        target=_TARGETS[sent.target],
        p_unsafe=sent.p_unsafe,
        threshold=sent.threshold,
        categories={score.code: score.probability for score in sent.categories},
        flagged=tuple(sent.flagged),
        p_refusal=sent.p_refusal if sent.HasField("p_refusal") else None,
        coverage=Coverage(
            coverage.seen_tokens,
            coverage.total_tokens,
            coverage.windows,
            coverage.worst_start_characters,
            coverage.worst_end_characters,
        ),
        policy=sent.policy_digest,
        model=sent.model_digest,
        timings=Timings(timings.tokenize_ms, timings.queue_ms, timings.infer_ms),
        unjudged=tuple(sent.unjudged),
        decided_by=sent.decided_by,
        language=Language(sent.language.code, sent.language.probability, sent.language.supported)
        if sent.HasField("language")
        else None,
        monitor=_monitor_from_proto(sent.monitor) if sent.HasField("monitor") else None,
    )


def _monitor_from_proto(sent: pb.Monitor) -> Monitor:
    if sent.outcome not in _OUTCOMES:
        raise ServiceError(f"the server sent outcome {int(sent.outcome)}, which this version does not know; upgrade it")
    return Monitor(tuple(sent.codes), _OUTCOMES[sent.outcome], tuple(sent.flagged), sent.p_enforced)


def item_to_proto(answer: Verdict | GuardError, client_id: str) -> pb.BatchItem:
    if isinstance(answer, Verdict):
        return pb.BatchItem(verdict=verdict_to_proto(answer), client_id=client_id)
    return pb.BatchItem(error=to_status(answer), client_id=client_id)


def item_from_proto(item: pb.BatchItem) -> Verdict | GuardError:
    """The verdict on one conversation of a batch, or its error."""
    if item.HasField("error"):
        return from_status(item.error)
    try:
        return verdict_from_proto(item.verdict)
    except ServiceError as error:
        return error


def policy_to_proto(policy: Policy, name: str = "", yaml: str = "") -> pb.PolicyInfo:
    return pb.PolicyInfo(
        id=policy.id,
        version=policy.version,
        digest=policy.digest,
        codes=policy.codes,
        names=[category.name for category in policy.categories],
        yaml=yaml,
        name=name,
    )


def info_to_proto(info: ServiceInfo) -> pb.GetInfoResponse:
    return pb.GetInfoResponse(
        version=info.version,
        model_digest=info.model,
        model_kind=info.kind,
        policy=policy_to_proto(info.policy, yaml=policies.dump(info.policy)),
        mode=_MODE_NUMBERS[info.mode],
        limits=pb.Limits(**dataclasses.asdict(info.limits)),
        thresholds=[
            pb.Thresholds(target=_TARGET_NUMBERS[target], unsafe=unsafe, categories=categories)
            for target, (unsafe, categories) in info.thresholds.items()
        ],
    )


def info_from_proto(sent: pb.GetInfoResponse) -> ServiceInfo:
    """The description of a server; ServiceError if its policy or mode is unknown to this version."""
    try:
        policy = policies.from_text(sent.policy.yaml, "the server's policy")
    except PolicyError:
        policy = None
    if sent.mode not in _MODES or policy is None or policy.digest != sent.policy.digest:
        raise ServiceError(
            f"the server has mode {int(sent.mode)} and policy {sent.policy.id[:64]!r}, which this version cannot "
            "parse; upgrade guard-service"
        )
    # A limit that the server does not send has its default.
    limits = {field.name: getattr(sent.limits, field.name) for field in dataclasses.fields(Limits)}
    return ServiceInfo(
        model=sent.model_digest,
        kind=sent.model_kind,
        policy=policy,
        mode=_MODES[sent.mode],
        thresholds={
            _TARGETS[each.target]: (each.unsafe, dict(each.categories))
            for each in sent.thresholds
            if each.target in _TARGETS
        },
        version=sent.version,
        limits=Limits(**{name: value for name, value in limits.items() if value > 0}),
    )
