"""Prometheus metrics of one server, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from guard.serve.core.info import ServiceInfo
from guard.serve.core.observer import Load, Observer
from guard.verdict import Outcome, Verdict

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
_RATIOS = (1, 1.1, 1.25, 1.5, 2, 3)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics(Observer):
    """An Observer (guard.serve.core.observer) whose page Prometheus scrapes. Labels never hold a caller's words."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._codes: frozenset[str] = frozenset()

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"guard_{name}", text, buckets=buckets, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"guard_{name}", text, labels, registry=registry)

        self._requests = counter("requests", "Calls, by method and status.", "method", "code")
        self._request_seconds = Histogram(
            "guard_request_seconds", "Time of a call in the server.", ["method"], buckets=_SECONDS, registry=registry
        )
        self._verdicts = counter("verdicts", "Verdicts, by outcome and target.", "outcome", "target")
        self._flagged = counter("flagged", "Flagged categories of verdicts.", "category")
        self._would_flag = counter("would_flag", "Monitored categories that would have been flagged.", "category")
        self._languages = counter("languages", "Judged messages, by likeliest language.", "language", "supported")
        self._incomplete = counter("incomplete", "Verdicts on conversations of which a part could not be judged.")
        self._shed = counter("shed", "Requests that got an error instead of verdicts, by its kind.", "reason")
        self._cancelled = counter("cancelled", "Requests whose caller went before the answer.")
        self._unlogged = counter("audit_lost", "Requests whose lines of the audit log are lost.")
        self._reloads = counter("reloads", "Reloads of the model and policies, by result.", "result")
        for result in ("ok", "failed"):
            self._reloads.labels(result)
        self._tokenize_seconds = histogram("tokenize_seconds", "Tokenizing a conversation.", _SECONDS)
        self._queue_seconds = histogram("queue_seconds", "Wait of a conversation for its batch.", _SECONDS)
        self._infer_seconds = histogram("infer_seconds", "The engine's time for a batch.", _SECONDS)
        self._batch_size = histogram("batch_size", "Windows of a batch.", _COUNTS)
        self._batch_tokens = histogram("batch_tokens", "Tokens of a batch, without padding.", _TOKENS)
        self._padding = histogram("padding_ratio", "Tokens of a batch with padding, by those without.", _RATIOS)
        self._unrewarded = counter("unrewarded", "Answers that got the lowest reward, by the kind of error.", "reason")
        self._reward_size = Histogram(
            "guard_reward_batch_size", "Answers of a batch.", ["component"], buckets=_COUNTS, registry=registry
        )
        self._reward_seconds = Histogram(
            "guard_reward_seconds",
            "A reward model's time for a batch.",
            ["component"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._answers = Gauge(
            "guard_reward_queue_depth", "Answers accepted and not yet scored.", ["component"], registry=registry
        )
        self._windows = Gauge("guard_queue_depth", "Windows accepted and not yet answered.", registry=registry)
        self._tokens = Gauge("guard_queue_tokens", "Tokens accepted and not yet answered.", registry=registry)
        self._ready = Gauge("guard_ready", "1 where requests are accepted, else 0.", registry=registry)
        self._model = Gauge(
            "guard_model_info",
            "The model and its default policy.",
            ["model", "kind", "policy", "version"],
            registry=registry,
        )

    def page(self) -> bytes:
        """The metrics in the text format of Prometheus (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

    def describe(self, info: ServiceInfo) -> None:
        """The model and policy that it serves, whose categories are counted by their codes.

        Those of earlier ones are, too: requests that were accepted before a reload are answered after it.
        """
        self._codes |= frozenset(info.policy.codes)
        self._model.clear()  # a reload replaces the model
        self._model.labels(info.model, info.kind, info.policy.id, info.version).set(1)

    def load(self, now: Callable[[], Load]) -> None:
        self._windows.set_function(lambda: now().windows)
        self._tokens.set_function(lambda: now().tokens)
        self._ready.set_function(lambda: now().ready)

    def called(self, method: str, code: str, seconds: float) -> None:
        self._requests.labels(method, code).inc()
        self._request_seconds.labels(method).observe(seconds)

    def judged(self, verdict: Verdict) -> None:
        self._verdicts.labels(verdict.outcome.value, verdict.target.value).inc()
        for code in verdict.flagged:  # a policy of a request may bring any code
            self._flagged.labels(code if code in self._codes else "other").inc()
        for code in verdict.monitor.would_flag if verdict.monitor else ():
            self._would_flag.labels(code if code in self._codes else "other").inc()
        if verdict.language is not None:  # one of the 97 that can be identified
            self._languages.labels(verdict.language.code, str(verdict.language.supported).lower()).inc()
        if verdict.outcome is Outcome.INCOMPLETE:
            self._incomplete.inc()
        self._tokenize_seconds.observe(verdict.timings.tokenize_ms / 1e3)
        self._queue_seconds.observe(verdict.timings.queue_ms / 1e3)

    def refused(self, reason: str) -> None:
        self._shed.labels(reason).inc()

    def cancelled(self) -> None:
        self._cancelled.inc()

    def unlogged(self) -> None:
        self._unlogged.inc()

    def reloaded(self, done: bool) -> None:
        self._reloads.labels("ok" if done else "failed").inc()

    def batch(self, windows: int, tokens: int, padded: int, seconds: float) -> None:
        self._infer_seconds.observe(seconds)
        self._batch_size.observe(windows)
        self._batch_tokens.observe(tokens)
        self._padding.observe(padded / max(tokens, 1))

    def reward_load(self, component: str, now: Callable[[], int]) -> None:
        self._answers.labels(component).set_function(now)

    def reward_batch(self, component: str, answers: int, seconds: float) -> None:
        self._reward_size.labels(component).observe(answers)
        self._reward_seconds.labels(component).observe(seconds)

    def unrewarded(self, reason: str) -> None:
        self._unrewarded.labels(reason).inc()
