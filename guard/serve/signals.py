"""The signals that end a server."""

from __future__ import annotations

import asyncio
import signal

_ENDING = (signal.SIGTERM, signal.SIGINT)


def stopping() -> asyncio.Event:
    """Is set by SIGTERM or SIGINT; a second one ends the process at once. Main thread only, in a running loop."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def stop() -> None:
        for each in _ENDING:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        event.set()

    for each in _ENDING:
        loop.add_signal_handler(each, stop)
    return event
