"""`guard serve`: the service of verdicts and rewards, over gRPC and HTTP."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.cli import names
from guard.cli.options import GUARD, PolicyOption
from guard.errors import ConfigError, need
from guard.mode import MODES

if TYPE_CHECKING:
    from guard.reward.scorer import Scorer

_LISTENS, _SECURITY, _LOAD = "Where it listens", "Who may call, and what is recorded", "Load"


def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            help="A settings file (docs/serving.md). Each setting is also a variable, GUARD_SERVE_ and its key, which "
            "overrides the file; options override both."
        ),
    ] = None,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check the settings and the files that they name, and exit.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(help="The port to listen on, by default 50051; 0: any free port.", rich_help_panel=_LISTENS),
    ] = None,
    rest_port: Annotated[
        int | None,
        typer.Option(help="The port for HTTP; left out, there is none. 0: any free port.", rich_help_panel=_LISTENS),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="A port for metrics and health alone, over HTTP; --rest-port has them as well.",
            rich_help_panel=_LISTENS,
        ),
    ] = None,
    playground: Annotated[
        bool,
        typer.Option(
            "--playground",
            help="Serve a page at / of --rest-port to try the guard by hand, in a browser.",
            rich_help_panel=_LISTENS,
        ),
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            help="The address to listen on, by default 127.0.0.1; 0.0.0.0: all addresses.", rich_help_panel=_LISTENS
        ),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            help="A file of API keys (`guard keys new`); left out, no key is needed. Read again on change.",
            rich_help_panel=_SECURITY,
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            help="The server's certificate chain in PEM: TLS on all ports. Read again on change.",
            rich_help_panel=_SECURITY,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="The certificate's private key in PEM.", rich_help_panel=_SECURITY)
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            help="Who signs clients' certificates, in PEM; given, each client needs one.", rich_help_panel=_SECURITY
        ),
    ] = None,
    hardened: Annotated[
        bool,
        typer.Option(
            "--hardened",
            help="Insist on API keys, and on TLS or this machine alone; no reflection.",
            rich_help_panel=_SECURITY,
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            help="A bundle folder, a guard's name, or `fake`; default: the shipped guard.",
            autocompletion=names.bundles,
            rich_help_panel=GUARD,
        ),
    ] = None,
    policy: PolicyOption = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(MODES),
            help="The default thresholds; by default balanced.",
            autocompletion=names.modes,
            rich_help_panel=GUARD,
        ),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="A reward model to serve beside the guard under this name: its folder, or `fake`; give it for each.",
            rich_help_panel=GUARD,
        ),
    ] = None,
    audit_log: Annotated[
        Path | None,
        typer.Option(
            help="Append a line of JSON for each judged conversation, without its text.", rich_help_panel=_SECURITY
        ),
    ] = None,
    unsupported_language: Annotated[
        str | None,
        typer.Option(
            help="What to do with texts in languages that the model was not trained for: `incomplete` (default), or "
            "`judge` them as any other. Languages are identified where the extra `language` is installed.",
            rich_help_panel=GUARD,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of the model in each worker; default: the cores shared among them.", rich_help_panel=_LOAD
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that score, by default one; each holds the model in memory.", rich_help_panel=_LOAD
        ),
    ] = None,
    max_queue: Annotated[
        int | None,
        typer.Option(
            help="Queue limit in windows (a short text is one), by default 4096; beyond it, requests are refused.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    max_characters: Annotated[
        int | None,
        typer.Option(help="Longest accepted conversation, by default 262144 characters.", rich_help_panel=_LOAD),
    ] = None,
) -> None:
    """Serve verdicts and rewards over gRPC, and over HTTP with --rest-port.

    At SIGTERM or SIGINT accepted requests are answered before shutdown; SIGHUP loads model and policies again.

    Example: guard serve --policy my.yaml --rest-port 8080
    """
    import asyncio

    from guard.moderator import Moderator
    from guard.serve import config as configuration
    from guard.serve import logs
    from guard.serve.server import Running, run
    from guard.serve.start import check, open_served, warn_of_restart

    options: dict[tuple[str, str], Any] = {
        ("--port", "port"): port,
        ("--rest-port", "rest_port"): rest_port,
        ("--metrics-port", "metrics_port"): metrics_port,
        ("--playground", "playground"): playground or None,
        ("--host", "host"): host,
        ("--api-keys", "api_keys"): api_keys,
        ("--tls-certificate", "tls.certificate"): tls_certificate,
        ("--tls-key", "tls.key"): tls_key,
        ("--tls-client-ca", "tls.client_ca"): tls_client_ca,
        ("--hardened", "hardened"): hardened or None,
        ("--model", "model"): model,
        ("--policy", "policy"): policy,
        ("--mode", "mode"): mode,
        ("--unsupported-language", "unsupported_language"): unsupported_language,
        ("--threads", "threads"): threads,
        ("--workers", "workers"): workers,
        ("--reward", "rewards"): _by_name(reward) if reward else None,
        ("--audit-log", "audit.path"): audit_log,
        ("--max-queue", "limits.queue_windows"): max_queue,
        ("--max-characters", "limits.conversation_characters"): max_characters,
    }
    given = configuration.environment(os.environ)
    given += [configuration.Given(*names, value) for names, value in options.items() if value is not None]
    settings = configuration.settings(config, given)
    if check_config:
        check(settings)
        _check(settings.rewards)
        typer.echo(f"{config or 'the settings'}: valid")
        return
    logs.use(settings.logs)
    # Until the service has handlers of its own. A container's first process would not hear SIGTERM without one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with open_served(settings) as moderator:
        info = moderator.info
        what = f"model {info.model[:12]}, policy {info.policy.id} {info.policy.digest[:12]}"

        def announce(running: Running) -> None:
            also = "" if running.rest_url is None else f" and {running.rest_url}"
            metrics = "" if running.metrics_url is None else f"; metrics at {running.metrics_url}/metrics"
            page = f"; playground at {running.rest_url}/" if settings.playground else ""
            typer.echo(f"guard serving on {running.address}{also} ({what}){metrics}{page}")

        def reopen() -> Moderator:
            fresh = configuration.settings(config, given)
            warn_of_restart(settings, fresh)
            return open_served(fresh)

        asyncio.run(run(moderator, settings, announce, reopen, _scorers(settings.rewards)))


def _by_name(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, equals, model = each.partition("=")
        if not equals or name in found:
            raise ConfigError(f"--reward {each[:80]!r}: must be NAME=MODEL, and each NAME another")
        found[name] = model
    return found


def _scorers(rewards: Mapping[str, str]) -> dict[str, Scorer]:
    """The reward models of these names, opened; those on one base share it. Raises BundleError or MissingExtra."""
    folders = {name: model for name, model in rewards.items() if model != "fake"}
    opened: dict[str, Scorer] = {}
    if folders:
        _need_models()
        from guard.reward.open import open_scorers

        opened = dict(zip(folders, open_scorers(list(folders.values())), strict=True))
    if len(folders) < len(rewards):
        from guard.reward.fake import fake_scorer

        opened |= {name: fake_scorer() for name in rewards if name not in folders}
    return {name: opened[name] for name in rewards}


def _check(rewards: Mapping[str, str]) -> None:
    """Raises BundleError for a folder whose parts are not those of its reward model, without loading it."""
    for model in rewards.values():
        if model != "fake":
            _need_models()
            from guard.reward.folder import read_described

            read_described(Path(model))


def _need_models() -> None:
    for module in ("torch", "transformers", "peft"):
        need(module, "train")
