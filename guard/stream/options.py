"""Options of one stream: what is released when, and how often it is checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from guard.errors import ConfigError

Release = Literal["hold", "observe"]
RELEASES: tuple[Release, ...] = get_args(Release)
# Of what a caller may choose, least and most: `tail`, and `stop_after` times `characters`, are judged again and again.
_BOUNDS = {"characters": (1, 4000), "tail": (0, 4000), "stop_after": (1, 10)}


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a reply is checked while it is written. Raises ConfigError for what is not allowed.

    release: `hold` releases only what a verdict of SAFE covers, `observe` everything at once; it checks behind, and
    never stops a stream. characters, seconds: after how many new ones a check is due at the latest, where no sentence
    ends before. tail: characters before the new ones that a check covers as well. stop_after: how many checks in a row
    must not be SAFE before the stream is stopped; what they cover stays held meanwhile. sure: by how much the log-odds
    of unsafe must exceed those of the threshold for a single check to stop it. At most 4000 characters, a tail of 4000
    and 10 checks in a row.
    """

    release: Release = "hold"
    characters: int = 400
    seconds: float = 1.0
    tail: int = 800
    stop_after: int = 3
    sure: float = 2.0

    def __post_init__(self) -> None:
        if self.release not in RELEASES:
            raise ConfigError(f"unknown release {str(self.release)[:40]!r}; allowed: {', '.join(RELEASES)}")
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be >= {least} and <= {most} (got {getattr(self, name)})")
        if not 0 < self.seconds < math.inf:
            raise ConfigError(f"seconds must be > 0 and finite (got {self.seconds})")
        if not self.sure >= 0:
            raise ConfigError(f"sure must be >= 0 (got {self.sure})")
