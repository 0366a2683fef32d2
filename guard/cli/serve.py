"""`guard serve`: the gRPC moderation service."""

from __future__ import annotations

from typing import Annotated

import typer

from guard.calibration import MODES, Mode
from guard.errors import ConfigError


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 picks a free port.")] = 50051,
    host: Annotated[str, typer.Option(help="Which address to listen on; 0.0.0.0 is all of them.")] = "127.0.0.1",
    model: Annotated[
        str | None, typer.Option(help="Bundle folder, or `fake`; without it the guard that ships in the package.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Shipped policy or file; without it the bundle's own.")] = None,
    mode: Annotated[str, typer.Option(help=f"Where the thresholds lie: {', '.join(MODES)}.")] = "balanced",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the model; without it, one per core.")] = None,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Windows of text that may wait (a short text is one); more are refused.")
    ] = 4096,
    max_characters: Annotated[int, typer.Option(min=1, help="Longest conversation that is taken.")] = 262_144,
) -> None:
    """Serve verdicts over gRPC until SIGTERM or SIGINT; accepted requests are answered before it stops."""
    import asyncio
    import logging

    from guard.moderator import open_moderator
    from guard.serve.grpc.server import Settings, run
    from guard.serve.limits import Limits

    if mode not in MODES:
        raise ConfigError(f"--mode {mode[:40]!r} is unknown; allowed: {', '.join(MODES)}")
    chosen: Mode = mode
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    limits = Limits(conversation_characters=max_characters, queue_windows=max_queue)
    with open_moderator(model, policy, chosen, threads) as moderator:
        info = moderator.info
        what = f"model {info.model[:12]}, policy {info.policy.id} {info.policy.digest[:12]}"

        def announce(address: str) -> None:
            typer.echo(f"guard serving on {address} ({what})")

        asyncio.run(run(moderator, Settings(host, port, limits), announce))
