"""The one verdict grammar, `safe` | `unsafe` | `unsafe\\nS1,S10`: as text, and as tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from guard.errors import VerdictError
from guard.policy import Policy, ordered
from guard.prompts.window import Ids
from guard.verdict import natural

SAFE_WORD, UNSAFE_WORD = "safe", "unsafe"


def write(codes: Collection[str], policy: Policy, safe: bool = False) -> str:
    """The verdict text: `safe`, `unsafe`, or `unsafe` with the codes in numeric order on the next line."""
    if safe:
        if codes:
            raise VerdictError(f"a safe verdict names no category (got {', '.join(codes)})")
        return SAFE_WORD
    return f"{UNSAFE_WORD}\n{','.join(ordered(policy, codes))}" if codes else UNSAFE_WORD


def parse(text: str, policy: Policy) -> tuple[bool, tuple[str, ...]]:
    """(unsafe?, codes) of a generated verdict; only leading and trailing white space is tolerated.

    Raises VerdictError on an unknown or duplicate code, codes out of numeric order, or anything that is not a verdict:
    what cannot be parsed never counts as safe. The message contains no generated text, which may repeat user text.
    """
    lines = text.strip().split("\n")
    if lines == [SAFE_WORD]:
        return False, ()
    if lines[0] != UNSAFE_WORD or len(lines) > 2:
        raise VerdictError(f"not a verdict ({len(text)} characters); expected `safe`, or `unsafe` and a line of codes")
    if len(lines) == 1:
        return True, ()
    codes = lines[1].split(",")
    if unknown := sum(code not in policy.codes for code in codes):
        raise VerdictError(
            f"verdict has {unknown} unknown codes of {len(codes)}; the policy has: {', '.join(policy.codes)}"
        )
    if len(set(codes)) != len(codes):
        raise VerdictError(f"verdict names a category twice: {', '.join(codes)}")
    if tuple(codes) != ordered(policy, codes):
        raise VerdictError(f"verdict codes are not in numeric order: {', '.join(codes)}")
    return True, tuple(codes)


@dataclass(frozen=True, eq=False)
class VerdictGrammar:
    """A guard's verdicts under one policy in tokens: `safe` or `unsafe`, or `start`, then codes between separators.

    The first token of `safe` against that of `unsafe` decides. `codes` are in numeric order, and none of a guard that
    does not name categories; `end` follows a verdict.
    """

    safe: Ids
    unsafe: Ids
    start: Ids
    codes: Mapping[str, Ids]
    separator: Ids
    end: Ids

    def ids(self, codes: Collection[str], safe: bool = False) -> Ids:
        """The verdict that `write` writes, with its end. The codes are the policy's."""
        if safe:
            return (*self.safe, *self.end)
        if not codes:
            return (*self.unsafe, *self.end)
        first, *others = (self.codes[code] for code in sorted(set(codes), key=natural))
        rest = [index for ids in others for index in (*self.separator, *ids)]
        return (*self.start, *first, *rest, *self.end)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest verdict."""
        return len(self.ids(self.codes))

    @cached_property
    def choices(self) -> Ids:
        """The tokens among which a line of codes chooses, each once: the end, a separator's first, those of codes."""
        codes = (token for ids in self.codes.values() for token in ids)
        return tuple(dict.fromkeys([self.end[0], *self.separator[:1], *codes]))
