"""How much of a file may be in memory at once, whatever the file says of itself."""

from __future__ import annotations

from guard.errors import DataError

ROW_BYTES = 4 << 20  # of one row as it is written; as much as the service takes in one request
SHARD_BYTES = 16 << 20  # of the rows that are held together, the last one apart
_EXPANSION = 250  # times; text packs to a tenth or a fiftieth of its size
_SMALL = 16 << 20  # bytes that may always be unpacked


def check_expansion(where: str, packed: int, unpacked: int) -> None:
    """DataError where so many bytes, unpacked, come out of so few."""
    if unpacked > _SMALL and unpacked > _EXPANSION * packed:
        raise DataError(
            f"{where}: {packed:,} bytes unpack to {unpacked:,} or more, over {_EXPANSION} times as many; if that is no "
            "mistake, unpack the file yourself"
        )
