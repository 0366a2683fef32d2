"""Crosswalks: which category codes a source's native labels stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from guard import assets, schema
from guard.errors import ConfigError, DataError
from guard.policy import Policy, unknown_codes


@dataclass(frozen=True)
class Crosswalk:
    """Native labels of one source and the codes they map to; every native label is mapped or unmapped with a reason.

    Labels are compared without case and outer white space. With `match: contains`, a native label that is not listed is
    decided by the first key that occurs in it, those of `mapped` before those of `unmapped`.
    """

    __pydantic_config__ = schema.STRICT

    name: str
    policy: str
    title: str
    mapped: dict[str, tuple[str, ...]]
    unmapped: dict[str, str]
    match: Literal["exact", "contains"] = "exact"

    def __post_init__(self) -> None:
        folded = [fold(label) for label in (*self.mapped, *self.unmapped)]
        twice = sorted({label for label in folded if folded.count(label) > 1})
        if twice:
            raise ValueError(f"native label {twice[0]!r} is listed twice; map it or give a reason, not both")

    @cached_property
    def table(self) -> dict[str, tuple[str, ...]]:
        """Codes by folded native label, mapped labels first; none for an unmapped label."""
        mapped = {fold(label): codes for label, codes in self.mapped.items()}
        return mapped | {fold(label): () for label in self.unmapped}


def fold(label: object) -> str:
    """A native label as it is compared: its text in lower case without outer white space."""
    return str(label).strip().lower()


def load(name: str, taxonomy: Path | None = None) -> Crosswalk:
    """The crosswalk `name` of `taxonomy` (default: the shipped one); ConfigError lists the mistakes of its file."""
    folder = (taxonomy or assets.asset("taxonomy")) / "crosswalks"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"no crosswalk {name!r} in {folder}; there are: {', '.join(known)}")
    return schema.load(folder / f"{name}.yaml", Crosswalk, ConfigError)


def check_codes(crosswalk: Crosswalk, policy: Policy) -> None:
    """ConfigError if the crosswalk is for another policy, or maps to a code that `policy` lacks."""
    if crosswalk.policy != policy.id:
        raise ConfigError(
            f"crosswalk {crosswalk.name} maps to policy {crosswalk.policy!r}, but the build is for {policy.id!r}; "
            "write a crosswalk for that policy"
        )
    for label, codes in crosswalk.mapped.items():
        for code in codes:
            if code not in policy.codes:
                raise ConfigError(f"crosswalk {crosswalk.name}: {label!r}: {unknown_codes(policy, [code])}")


def translate(crosswalk: Crosswalk, labels: Iterable[object], source: str, field: str) -> tuple[str, ...] | None:
    """Codes of the native labels, in their order; None if no label is mapped (the source tells nothing).

    Raises DataError naming the source and field for a native label that the crosswalk does not list.
    """
    codes: dict[str, None] = {}
    for label in labels:
        codes.update(dict.fromkeys(_codes(crosswalk, label, source, field)))
    return tuple(codes) or None


def _codes(crosswalk: Crosswalk, label: object, source: str, field: str) -> tuple[str, ...]:
    native = fold(label)
    if native in crosswalk.table:
        return crosswalk.table[native]
    if crosswalk.match == "contains":
        for key, codes in crosswalk.table.items():
            if key in native:
                return codes
    raise DataError(
        f"source {source}: field `{field}` holds a native label ({len(native)} characters) that crosswalk "
        f"{crosswalk.name} does not list; add it under `mapped` or `unmapped`"
    )
