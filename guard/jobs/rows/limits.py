"""Limits on how much of a file is in memory at once, whatever the file claims."""

from __future__ import annotations

from guard.errors import DataError

ROW_BYTES = 4 << 20  # of one serialised row; the same as the service's request limit
SHARD_BYTES = 16 << 20  # of the rows that are held together, the last one apart
_EXPANSION = 250  # times; text compresses to a tenth or a fiftieth of its size
_SMALL = 16 << 20  # bytes that may always be unpacked


def check_expansion(where: str, packed: int, unpacked: int) -> None:
    """DataError where the compression ratio is implausible."""
    if unpacked > _SMALL and unpacked > _EXPANSION * packed:
        raise DataError(
            f"{where}: {packed:,} bytes unpack to {unpacked:,} or more, over {_EXPANSION} times as many; if that is "
            "intended, unpack the file yourself"
        )
