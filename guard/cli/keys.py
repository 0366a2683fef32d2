"""`guard keys new`: make an API key for `guard serve --api-keys`."""

from __future__ import annotations

from typing import Annotated

import typer

from guard.errors import ConfigError

app = typer.Typer(no_args_is_help=True)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people to read.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="moderate, metrics or admin; may be given several times.")
    ] = None,
    per_second: Annotated[float | None, typer.Option(help="Limit in conversations per second; default: none.")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Limit of concurrent calls; default: none.")] = None,
) -> None:
    """Print a new key, which cannot be shown again, and the entry of the key file that makes it valid.

    Example: guard keys new alice --per-second 50
    """
    from guard import document, schema
    from guard.serve.core.keys import SCOPES, KeyFile, new_key

    chosen = tuple(scope or ["moderate"])
    if unknown := [each for each in chosen if each not in SCOPES]:
        raise ConfigError(f"--scope {unknown[0][:40]!r} is unknown; allowed: {', '.join(SCOPES)}")
    clear, key = new_key(name, tuple(each for each in SCOPES if each in chosen))
    entry: dict[str, object] = {"name": key.name, "sha256": key.sha256, "scopes": list(key.scopes)}
    limits = {"per_second": per_second, "concurrent": concurrent}
    entry |= {name: value for name, value in limits.items() if value is not None}
    schema.convert({"keys": [entry]}, KeyFile, "guard keys new", error=ConfigError)
    typer.echo(f"{clear}\n\n{document.dump({'keys': [entry]})}", nl=False)
