"""A guard on a Ray cluster: a pool of actors, each a process of its own with the model loaded once."""

from __future__ import annotations

import dataclasses
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any, Self

from guard.calibration import Mode
from guard.conversation import Conversation
from guard.errors import ConfigError, GuardError, ServiceError, need
from guard.moderator import GuardInfo, Moderator, open_moderator
from guard.policy import Policy, load
from guard.verdict import Verdict

_DEATHS = 3  # of the processes that judge the same texts, before the texts are suspected
_CONNECT_S = 10.0
_START_S = 600.0  # how long to wait for any process to start
_log = logging.getLogger(__name__)


class _Judge:
    """What an actor runs. The guard is opened by the first call, so that its errors are those of a call."""

    def __init__(self, model: str | None, policy: Policy | None, mode: Mode) -> None:
        self._model, self._policy, self._mode = model, policy, mode

    @cached_property
    def _moderator(self) -> Moderator:
        moderator = open_moderator(self._model, None, self._mode, threads=1)
        return moderator if self._policy is None else dataclasses.replace(moderator, policy=self._policy)

    def info(self) -> GuardInfo:
        return self._moderator.info

    def moderate_each(self, *asked: Any) -> list[Verdict | GuardError]:
        return self._moderator.moderate_each(*asked)


class RayGuard:
    """A Guard (guard.moderator.guard) whose calls run one at a time in each actor; `parallel` is their number.

    model: a bundle folder at the same path on every node, or None or `fake`, as for `open_guard`. address: of a running
    cluster; None: that of the environment, or a cluster for this process alone. actors: None for one per GPU or, where
    there is none, one per core. An actor that dies with its node is replaced, and its texts are judged by another.
    Thread-safe. Raises ServiceError where the cluster cannot be reached or has no free core.
    """

    def __init__(
        self,
        model: str | None = None,
        policy: str | None = None,
        mode: Mode = "balanced",
        address: str | None = None,
        actors: int | None = None,
    ) -> None:
        if actors is not None and actors < 1:
            raise ConfigError(f"actors must be >= 1 (got {actors})")
        self._ray = need("ray", "ray")
        self._ours = not self._ray.is_initialized()
        try:
            if address and (at := address.removeprefix("ray://")).rpartition(":")[2].isdigit():
                host, _, port = at.rpartition(":")
                socket.create_connection((host, int(port)), _CONNECT_S).close()  # Ray itself would try for minutes
            self._ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as problem:
            raise ServiceError(
                f"no Ray cluster at {address or 'the address of the environment'} ({type(problem).__name__}); "
                "start one with `ray start --head`, or give its address"
            ) from None
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self.parallel = actors or gpus or int(resources.get("CPU", 0))
        if not self.parallel:
            raise ServiceError("the Ray cluster has no core; add a node with `ray start --address=...`")
        remote = self._ray.remote(_Judge)
        named = None if policy is None else load(policy)
        options = remote.options(num_cpus=1, num_gpus=1 if gpus and not actors else 0)
        self._create: Callable[[], Any] = lambda: options.remote(model, named, mode)
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._starting: dict[Any, Any] = {}  # by the reference that is ready when the actor is
        self._lock = threading.Lock()
        self._failed_starts = 0
        for _ in range(self.parallel):
            self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the actors and, unless the program was connected before, leaves the cluster."""
        while not self._idle.empty():
            self._ray.kill(self._idle.get())
        if self._ours:
            self._ray.shutdown()

    @cached_property
    def info(self) -> GuardInfo:
        info: GuardInfo = self._call("info")
        return info

    def moderate_each(
        self,
        conversations: Sequence[Conversation],
        policy: Policy | None = None,
        exclude: Collection[str] = (),
        mode: Mode | None = None,
    ) -> list[Verdict | GuardError]:
        answers: list[Verdict | GuardError] = self._call("moderate_each", conversations, policy, tuple(exclude), mode)
        return answers

    def _call(self, method: str, *arguments: Any) -> Any:
        for _ in range(_DEATHS):
            actor = self._take()
            try:
                answer = self._ray.get(getattr(actor, method).remote(*arguments))
            except self._ray.exceptions.RayActorError as problem:
                _log.warning("a Ray actor died (%s); another takes its texts", type(problem).__name__)
                self._ray.kill(actor)
                self._start()
            except self._ray.exceptions.RayTaskError as problem:
                self._idle.put(actor)
                raise problem.cause if isinstance(problem.cause, GuardError) else problem from None
            else:
                self._idle.put(actor)
                return answer
        raise ServiceError(f"{_DEATHS} Ray actors died with the same texts; see Ray's logs, and run again to resume")

    def _start(self) -> None:
        """Requests an actor, which may have to wait for a free core."""
        actor = self._create()
        with self._lock:
            self._starting[actor.info.remote()] = actor

    def _take(self) -> Any:
        """An idle actor, or the first one that has started."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            try:
                return self._idle.get(timeout=0.1)
            except queue.Empty:
                self._gather()
        raise ServiceError(f"no Ray actor started in {_START_S:.0f} s; are there free cores? See `ray status`")

    def _gather(self) -> None:
        """Adds the actors that have started since to the idle ones."""
        with self._lock:
            ready, _ = self._ray.wait(list(self._starting), timeout=0) if self._starting else ([], [])
            actors = [(reference, self._starting.pop(reference)) for reference in ready]
        for reference, actor in actors:
            try:
                self._ray.get(reference)
            except self._ray.exceptions.RayActorError as problem:
                self._failed_starts += 1
                if self._failed_starts > _DEATHS * self.parallel:
                    raise ServiceError(
                        f"Ray actors do not start ({type(problem).__name__}); is guard installed on every node? See "
                        "Ray's logs"
                    ) from None
                self._start()
            except self._ray.exceptions.RayTaskError as problem:
                raise problem.cause if isinstance(problem.cause, GuardError) else problem from None
            else:
                self._idle.put(actor)
