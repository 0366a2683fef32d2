"""Translators: what a wire format is to the service, as pure functions of plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from guard.errors import GuardError, InvalidInput
from guard.policy import Policy
from guard.serve.core.candidate import Candidate, CandidateReward
from guard.serve.core.info import ServiceInfo
from guard.serve.core.request import Options, Request
from guard.serve.core.service import Answer
from guard.verdict import Verdict

Sent = TypeVar("Sent", bound=BaseModel)


class Body(BaseModel):
    """A request's body whose unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class OpenBody(BaseModel):
    """A request's body of a protocol that grows by fields: unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Judged:
    """The answers to one Request, in order, and the policy that was applied."""

    policy: Policy
    answers: Sequence[Answer]

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts; raises the first error, where a format cannot answer an error beside verdicts."""
        verdicts = []
        for answer in self.answers:
            if isinstance(answer, GuardError):
                raise answer
            verdicts.append(answer)
        return verdicts


@dataclass(frozen=True, slots=True)
class Context:
    """What a translator may know besides the body: headers in lower case, the served model's digest, known policies,
    and how many conversations a Request may have."""

    headers: Mapping[str, str]
    model: str
    policies: tuple[str, ...]
    batch: int


@dataclass(frozen=True, slots=True)
class Work:
    """What to ask of the core, and how to answer once each request has been judged."""

    requests: tuple[Request, ...]
    reply: Callable[[Sequence[Judged]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(Generic[Sent]):
    """A wire format: the body that its clients send, and the bodies that they understand.

    error: the HTTP status and the error to the body. statuses: where they differ from the usual ones (`status`).
    """

    path: str
    summary: str
    body: type[Sent]
    error: Callable[[int, GuardError], Any]
    response: Mapping[str, Any]  # a JSON Schema
    statuses: Mapping[type[GuardError], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Translator(Format[Sent]):
    """A format of moderation: a row of `table`. `plan` and the reply raise GuardErrors, which `error` renders."""

    plan: Callable[[Sent, Context], Work]
    prepare: Callable[[Policy], None] | None = None  # what `plan` and the reply need of a policy; may take a second


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTranslator(Format[Sent]):
    """A format of rewards: a row of `table`. `candidates` and the reply raise GuardErrors, which `error` renders."""

    candidates: Callable[[Sent], Sequence[Candidate | InvalidInput]]
    reply: Callable[[Sent, Sequence[CandidateReward]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoTranslator(Format[Sent]):
    """A format that asks what the service judges by. `reply` gets the names of the known policies besides."""

    options: Callable[[Sent], Options]
    reply: Callable[[ServiceInfo, tuple[str, ...]], Any]
