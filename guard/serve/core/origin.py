"""Where a call comes from, and how soon it wants its answer: by these, waiting work is served in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, get_args

from guard.batcher import Flow
from guard.errors import InvalidInput
from guard.serve.core.keys import Keys, Scope

Priority = Literal["interactive", "batch"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
HEADER = "guard-priority"
BATCH_WEIGHT = 1 / 8  # of interactive calls: work that nobody waits for is slowed down, and never stands still


@dataclass(frozen=True, slots=True)
class Origin:
    """client: the name of its key, or its host where no keys are asked for."""

    client: str = ""
    priority: Priority = "interactive"

    @property
    def flow(self) -> Flow:
        """Which place its work has among that of others."""
        return Flow(self.client, 1.0 if self.priority == "interactive" else BATCH_WEIGHT)


# Of the call that the running task belongs to; see quota.CALLER.
ORIGIN: ContextVar[Origin] = ContextVar("guard_origin", default=Origin())  # noqa: B039 - frozen


@contextmanager
def admitted(keys: Keys | None, headers: Mapping[str, str], host: str, scope: Scope) -> Iterator[None]:
    """Lets a call of `host` pass, which is counted as its key's until the end of the block.

    keys: those of which it must have one; None: no key is needed. Raises what `Keys.admitted` raises, and InvalidInput
    for an unknown priority.
    """
    with nullcontext() if keys is None else keys.admitted(headers, scope) as caller:
        name = host if caller is None else caller.name
        token = ORIGIN.set(Origin(name, _priority(headers.get(HEADER, PRIORITIES[0]))))
        try:
            yield
        finally:
            ORIGIN.reset(token)


def _priority(given: str) -> Priority:
    for priority in PRIORITIES:
        if given == priority:
            return priority
    raise InvalidInput(f"{HEADER} {given[:40]!r} must be one of {', '.join(PRIORITIES)}")
