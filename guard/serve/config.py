"""The settings of one server, from a file, environment variables and options; later ones win."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from guard import schema
from guard.calibration import Mode
from guard.document import Lines, parse, read_text
from guard.errors import ConfigError, nearest
from guard.policy import Code, Id
from guard.serve.core.audit import Audit
from guard.serve.core.disclosure import Scores
from guard.serve.core.guard_reward import OF_GUARD
from guard.serve.core.language import UnsupportedLanguage
from guard.serve.limits import Count, Limits
from guard.serve.logs import Format
from guard.serve.loopback import is_loopback

# Not GUARD_ alone: Kubernetes sets GUARD_PORT=tcp://… in the pods beside a service that is called guard.
PREFIX = "GUARD_SERVE_"
Port = Annotated[int, Field(ge=0, le=65535)]
Text = Annotated[str, Field(min_length=1)]
_RESERVED = (*OF_GUARD, "undecided")  # the names under which answers list what is no reward model's


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM: the server's certificate chain, its private key, and the signers of clients' certificates.

    Without `certificate` there is no TLS; without `client_ca` clients need no certificate.
    """

    __pydantic_config__ = schema.STRICT

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server judges by, where it listens, and its limits; `serve.yaml` holds the same keys.

    model, policy, mode, threads, workers: as `guard.moderator.open_moderator` takes them. threads: of each worker;
    None: they share the cores.
    port, rest_port, metrics_port: 0 is a free one; rest_port None: no HTTP; metrics_port: for /metrics, /healthz and
    /readyz alone, which rest_port has as well.
    playground: whether the HTTP listener has the page to try the guard by hand (guard.serve.http.playground).
    api_keys: the file of the keys (guard.serve.core.keys) of which each call must have one; health needs none.
    lame_duck_seconds: how long new requests still get UNAVAILABLE during shutdown; later ones are disconnected.
    monitor: by a policy's id the categories that are watched and never flagged, or `all` of them.
    rewards: reward models by the names of their components: folders, or `fake`. reward_weights: of components in the
    sum, where they differ from the usual ones (guard.serve.core.rewards).
    unsupported_language: whether a text in a language that the model was not trained for is INCOMPLETE, or judged as
    any other; languages are identified where the extra `language` is installed.
    hardened: insists on keys, and on TLS unless it listens on this machine alone; no reflection.
    scores: how exact they are in answers (guard.serve.core.disclosure).
    logs: lines of text, or JSON objects (guard.serve.logs).
    traces: whether calls are exported as OpenTelemetry spans (guard.serve.traces; extra `otel`).
    connections: of each listener, at most; streams: calls that a gRPC connection may have open at a time.
    unread_bytes: of answers over gRPC that one client (a key, or a host where there are none) has not yet taken.
    connection_age_seconds: after which a gRPC connection is closed, when its calls have ended or an hour has passed, so
    that clients spread over new servers; None: never. Idle ones are closed after 10 minutes.
    least_ping_seconds: a client that pings its gRPC connection more often than that, three times, is disconnected.
    head_seconds: a request over HTTP whose headers take longer is disconnected.
    """

    __pydantic_config__ = schema.STRICT

    model: Text | None = None
    policy: Text | None = None
    mode: Mode = "balanced"
    threads: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=1)] = 1
    unsupported_language: UnsupportedLanguage = "incomplete"
    monitor: Mapping[Id, Literal["all"] | tuple[Code, ...]] = field(default_factory=dict)
    rewards: Mapping[Text, Text] = field(default_factory=dict)
    reward_weights: Mapping[str, Annotated[float, Field(allow_inf_nan=False)]] = field(default_factory=dict)
    host: Text = "127.0.0.1"
    port: Port = 50051
    rest_port: Port | None = None
    metrics_port: Port | None = None
    playground: bool = False
    tls: TlsFiles = TlsFiles()
    api_keys: Path | None = None
    hardened: bool = False
    reflection: bool = True
    scores: Scores = "exact"
    connections: Count = 4096
    streams: Count = 1024
    unread_bytes: Count = 32 << 20
    connection_age_seconds: schema.Positive | None = None
    audit: Audit = field(default_factory=Audit)
    logs: Format = "text"
    traces: bool = False
    limits: Limits = field(default_factory=Limits)
    lame_duck_seconds: schema.NotNegative = 1.0
    least_ping_seconds: schema.Positive = 5.0
    head_seconds: schema.Positive = 10.0


@dataclass(frozen=True, slots=True)
class Given:
    """The value of one setting, by its dotted key; `where` names the variable or option in errors."""

    where: str
    key: str
    value: Any


def settings(file: Path | None, given: Iterable[Given]) -> Settings:
    """The defaults, overridden by the file, and that by each of `given` in order.

    Raises ConfigError, which lists the mistakes of the first of these that has any.
    """
    merged: dict[str, Any] = {}
    if file is not None:
        merged, lines = parse(read_text(file, ConfigError), str(file), ConfigError)
        _valid(merged, str(file), lines)
    for each in given:
        alone: dict[str, Any] = {}
        _set(alone, each)  # every setting has a default, so that one alone is a document too
        _valid(alone, each.where)
        _set(merged, each)
    chosen = schema.convert(merged, Settings, "the settings", error=ConfigError)
    _agree(chosen)
    return chosen


def environment(variables: Mapping[str, str]) -> list[Given]:
    """The settings of environment variables: `GUARD_SERVE_` and the key, `GUARD_SERVE_LIMITS_QUEUE_WINDOWS`.

    Values follow the rules of YAML, except that text is taken as it is. Raises ConfigError for an unknown variable.
    """
    known = {variable(key): (key, plain) for key, plain in keys(Settings)}
    given = []
    for name in sorted(each for each in variables if each.startswith(PREFIX)):
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near}? Known" if near else "known"
            raise ConfigError(f"unknown environment variable {name[:80]}; {hint}: {', '.join(known)}")
        key, plain = known[name]
        text = variables[name]
        given.append(Given(name, key, text if plain else parse(text, name, ConfigError)[0]))
    return given


def variable(key: str) -> str:
    """The environment variable of a dotted key."""
    return PREFIX + key.replace(".", "_").upper()


def keys(cls: Any, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """The dotted keys of all settings, and whether each is plain text."""
    hints = typing.get_type_hints(cls)
    for each in dataclasses.fields(cls):
        branches = _branches(hints[each.name])
        inner = next(filter(dataclasses.is_dataclass, branches), None)
        if inner is None:
            yield prefix + each.name, str in branches or Path in branches
        else:
            yield from keys(inner, f"{prefix}{each.name}.")


def _branches(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _agree(chosen: Settings) -> None:
    """Raises ConfigError for settings that are valid each by itself, and not together."""
    if chosen.playground and chosen.rest_port is None:
        raise ConfigError("playground: rest_port is missing; the page is served over HTTP, beside what it asks")
    tls = chosen.tls
    if (tls.certificate is None) != (tls.key is None):
        raise ConfigError(
            f"tls.{'certificate' if tls.key else 'key'} is missing; TLS needs tls.certificate and tls.key"
        )
    if wrong := [name for name in chosen.rewards if name in _RESERVED or not name.isidentifier()]:
        raise ConfigError(f"rewards.{wrong[0][:40]}: must be an identifier, and none of {', '.join(_RESERVED)}")
    components = (*OF_GUARD, *chosen.rewards)
    if unknown := [name for name in chosen.reward_weights if name not in components]:
        raise ConfigError(f"reward_weights.{unknown[0][:40]}: no such component; known: {', '.join(components)}")
    if chosen.hardened and chosen.api_keys is None:
        raise ConfigError("hardened: api_keys is missing; make a file of keys with `guard keys new`")
    if chosen.hardened and tls.certificate is None and not is_loopback(chosen.host):
        raise ConfigError(
            f"hardened: host {chosen.host} can be reached from other machines without TLS; set tls.certificate and "
            "tls.key, or host: 127.0.0.1"
        )
    if tls.client_ca is not None and tls.certificate is None:
        raise ConfigError("tls.client_ca needs tls.certificate and tls.key: clients show certificates over TLS alone")


def _valid(data: Any, where: str, lines: Lines | None = None) -> None:
    schema.convert(data, Settings, where, lines, ConfigError)


def _set(data: dict[str, Any], given: Given) -> None:
    *path, last = given.key.split(".")
    for part in path:
        if not isinstance(data.get(part), dict):  # left out, or null
            data[part] = {}
        data = data[part]
    data[last] = str(given.value) if isinstance(given.value, Path) else given.value
