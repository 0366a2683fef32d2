"""A guard wherever it runs: in this process, or behind a service."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from guard.calibration import Mode
from guard.conversation import Conversation
from guard.errors import GuardError
from guard.policy import Policy
from guard.verdict import Verdict


@dataclass(frozen=True, slots=True)
class GuardInfo:
    """What a guard is, and what it applies where a call brings nothing of its own."""

    model: str  # digest of the bundle
    kind: str  # of engine
    policy: str  # digest
    policy_id: str
    policy_version: str
    codes: tuple[str, ...]  # of the policy, in its order
    mode: Mode


class Guard(Protocol):
    """Thread-safe."""

    @property
    def info(self) -> GuardInfo: ...

    def moderate_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        """A verdict, or the error of its own, for each conversation, in order. What concerns them all is raised."""

    def close(self) -> None:
        """Lets go of the model or the connection."""
