"""`guard serve`: the moderation service, over gRPC and HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from guard.calibration import MODES, Mode
from guard.errors import ConfigError


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free port.")] = 50051,
    rest_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port for HTTP; left out, there is none. 0: any free port.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0: all addresses.")] = "127.0.0.1",
    model: Annotated[str | None, typer.Option(help="A bundle folder, or `fake`; default: the shipped guard.")] = None,
    policy: Annotated[str | None, typer.Option(help="A policy's name or file; default: the bundle's own.")] = None,
    mode: Annotated[str, typer.Option(help=f"The default thresholds: {', '.join(MODES)}.")] = "balanced",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the model; default: one per core.")] = None,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Queue limit in windows (a short text is one); beyond it, requests are refused.")
    ] = 4096,
    max_characters: Annotated[int, typer.Option(min=1, help="Longest accepted conversation.")] = 262_144,
) -> None:
    """Serve verdicts over gRPC, and over HTTP with --rest-port.

    At SIGTERM or SIGINT accepted requests are answered before shutdown.
    """
    import asyncio
    import logging

    from guard.moderator import open_moderator
    from guard.serve.limits import Limits
    from guard.serve.server import Running, Settings, run

    if mode not in MODES:
        raise ConfigError(f"--mode {mode[:40]!r} is unknown; allowed: {', '.join(MODES)}")
    chosen: Mode = mode
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    limits = Limits(conversation_characters=max_characters, queue_windows=max_queue)
    with open_moderator(model, policy, chosen, threads) as moderator:
        info = moderator.info
        what = f"model {info.model[:12]}, policy {info.policy.id} {info.policy.digest[:12]}"

        def announce(running: Running) -> None:
            also = "" if running.rest_address is None else f" and http://{running.rest_address}"
            typer.echo(f"guard serving on {running.address}{also} ({what})")

        asyncio.run(run(moderator, Settings(host, port, limits, rest_port=rest_port), announce))
