"""`guard admin reload`: have a running server load its model and policies again."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _admin() -> None:
    """Administer a running server."""


@app.command("reload")
def reload(
    server: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the server's gRPC listens.")
    ] = "127.0.0.1:50051",
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for the new model.")] = 300.0,
) -> None:
    """Load the model and the policies that the server's settings name, and wait until they judge.

    It needs a key with the scope `admin`, in GUARD_API_KEY. Where it fails, the server goes on with what it had.

    Example: guard admin reload --server 127.0.0.1:50051
    """
    from guard.serve.client.admin import reload as ask

    done = ask(server, timeout)
    typer.echo(f"{server}: model {done.model[:12]}, policy {done.policy} {done.policy_digest[:12]}")
