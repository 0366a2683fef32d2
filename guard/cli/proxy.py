"""`guard proxy`: an OpenAI-compatible chat server before another, with everything moderated that passes."""

from __future__ import annotations

from typing import Annotated

import typer

from guard.cli import names
from guard.cli.options import GUARD, ModeOption, PolicyOption, ServerOption
from guard.errors import ConfigError

_CHAT, _LISTENS, _RELEASE = "The chat server", "Where it listens", "What passes"


def proxy(
    upstream: Annotated[
        str, typer.Option(help="The model's server, like http://127.0.0.1:8001/v1.", rich_help_panel=_CHAT)
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free port.", rich_help_panel=_LISTENS)
    ] = 8000,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0: all addresses.", rich_help_panel=_LISTENS)
    ] = "127.0.0.1",
    release: Annotated[
        str,
        typer.Option(
            help="hold: nothing passes without a verdict of SAFE; observe: everything does.", rich_help_panel=_RELEASE
        ),
    ] = "hold",
    refusal: Annotated[
        str | None, typer.Option(help="The assistant's words in place of what is unsafe.", rich_help_panel=_RELEASE)
    ] = None,
    unjudged: Annotated[
        str | None, typer.Option(help="The same, of what the guard cannot judge.", rich_help_panel=_RELEASE)
    ] = None,
    on_error: Annotated[
        str | None,
        typer.Option(
            help="What an error of the guard means: `raise` it as 503 or 429 (default of hold), `block` as what cannot "
            "be judged, or `allow`, counted and logged (default of observe).",
            rich_help_panel=_RELEASE,
        ),
    ] = None,
    unsupported_language: Annotated[
        str,
        typer.Option(
            help="What to do with texts in languages that the model was not trained for: `incomplete`, as with what "
            "cannot be judged, or `judge` them as any other. A --server has its own rule.",
            rich_help_panel=GUARD,
        ),
    ] = "incomplete",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            help="A bundle folder, a guard's name, or `fake`; default: the shipped guard.",
            autocompletion=names.bundles,
            rich_help_panel=GUARD,
        ),
    ] = None,
    server: ServerOption = None,
    policy: PolicyOption = None,
    mode: ModeOption = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the model; default: one per core.", rich_help_panel=GUARD)
    ] = None,
    upstream_key: Annotated[
        str | None,
        typer.Option(
            envvar="GUARD_UPSTREAM_KEY",
            help="The key to send upstream; default: the caller's own.",
            rich_help_panel=_CHAT,
        ),
    ] = None,
) -> None:
    """Moderate a chat server: prompts before they are forwarded, replies before they are shown.

    It speaks OpenAI's POST /v1/chat/completions, streams and tool calls included.

    Example: guard proxy --upstream http://127.0.0.1:8001/v1
    """
    import asyncio
    import logging

    from guard import policy as policies
    from guard.chat.options import ChatOptions
    from guard.errors import need
    from guard.moderator import open_moderator
    from guard.serve.client.asynchronous import AsyncGuardClient
    from guard.stream import RELEASES, StreamOptions

    for module in ("starlette", "uvicorn", "httpx"):
        need(module, "rest")
    from guard.chat.server import ProxySettings, run

    if release not in RELEASES:
        raise ConfigError(f"--release {release[:40]!r} is unknown; allowed: {', '.join(RELEASES)}")
    if server is not None and (model is not None or threads is not None):
        raise ConfigError("a server has its own model and threads; give either --server, or --model and --threads")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    usual = ChatOptions()
    options = ChatOptions(
        usual.refusal if refusal is None else refusal,
        usual.unjudged if unjudged is None else unjudged,
        StreamOptions(release),
        on_error,  # type: ignore[arg-type]
        unsupported_language,  # type: ignore[arg-type]
    )
    settings = ProxySettings(upstream, host, port, upstream_key, options=options)

    def announce(url: str) -> None:
        typer.echo(f"guard proxy serving on {url} ({release}), before {settings.upstream}")

    async def remote(address: str) -> None:
        sent = policy if policy is None or policies.is_name(policy) else policies.load(policy)
        async with AsyncGuardClient(address, policy=sent, mode=mode) as client:
            await run(client, settings, announce)

    if server is not None:
        asyncio.run(remote(server))
    else:
        with open_moderator(model, policy, mode or "balanced", threads) as moderator:
            asyncio.run(run(moderator, settings, announce))
