"""The guard protocol, for a guard in this process or behind a service."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from guard.calibration import Mode
from guard.conversation import Conversation, Target
from guard.errors import GuardError
from guard.policy import Policy
from guard.verdict import Verdict


@dataclass(frozen=True, slots=True)
class GuardInfo:
    """What a guard judges by: `model` is its digest; policy and mode are the defaults of calls.

    thresholds: under that policy and mode, for each target the verdict's threshold and those of the categories.
    """

    model: str
    kind: str
    policy: Policy
    mode: Mode
    thresholds: Mapping[Target, tuple[float, Mapping[str, float]]]


class Guard(Protocol):
    """A Moderator in this process, or the client of a service. Thread-safe.

    `guard.serve.client.open_guard` opens either. Use it as a context manager or `close` it.
    """

    @property
    def info(self) -> GuardInfo:
        """What it judges by. Raises PolicyError or ServiceError where a service cannot answer."""

    def moderate_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        """For each conversation, in order, its verdict or its error; one never fails the others.

        policy, mode: None for the guard's own. Raises PolicyError or ConfigError for invalid options.
        """

    def close(self) -> None:
        """Frees the model, or the connection."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
