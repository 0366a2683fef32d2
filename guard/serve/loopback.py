"""Which hosts are this machine itself."""

from __future__ import annotations

import ipaddress
from contextlib import suppress


def is_loopback(host: str) -> bool:
    """Whether a name or an address, without a port, is this machine's own: localhost, 127.0.0.0/8, ::1."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
