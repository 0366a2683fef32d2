"""Routes: the crosswalk from one taxonomy to a policy, directly or through the hub policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from guard import policy as policies
from guard.errors import ConfigError
from guard.policy import Policy
from guard.policy import crosswalk as crosswalks
from guard.policy.crosswalk import Crosswalk, Entry

HUB = "mlcommons"


@dataclass(frozen=True, slots=True)
class Route:
    """A crosswalk to `policy` that accounts for all of its codes, and the policies between, if there are any."""

    crosswalk: Crosswalk
    policy: Policy
    through: tuple[str, ...] = ()


def between(origin: Policy | Crosswalk, policy: Policy, taxonomy: Path | None = None) -> Route:
    """The route from a policy's codes, or from the native labels of a crosswalk, to `policy`.

    The crosswalk of a policy to the hub is called by the policy's id, any other ORIGIN_to_POLICY; those of `taxonomy`
    come before the shipped ones. Raises ConfigError if there is none, or if it does not account for every code of both.
    """
    if isinstance(origin, Policy) and origin.id == policy.id:
        return Route(same(origin, policy), policy)
    direct = _direct(origin, policy, taxonomy)
    if direct is not None:
        return Route(direct, policy)
    hub = policies.load(HUB)
    first, second = _direct(origin, hub, taxonomy), _direct(hub, policy, taxonomy)
    if first is not None and second is not None:
        return Route(compose(first, second), policy, (HUB,))
    name = _name(origin, policy)
    lacking = [f"to {HUB}"] * (first is None) + [f"from {HUB} to {policy.id}"] * (second is None)
    raise ConfigError(
        f"no crosswalk {name}, and none {' and none '.join(lacking)}; write crosswalks/{name}.yaml in a folder and "
        "pass that folder with --taxonomy"
    )


def _name(origin: Policy | Crosswalk, policy: Policy) -> str:
    """What the crosswalk between the two is called."""
    start = origin.id if isinstance(origin, Policy) else origin.name
    return start if policy.id == HUB else f"{start}_to_{policy.id}"


def _direct(origin: Policy | Crosswalk, policy: Policy, taxonomy: Path | None) -> Crosswalk | None:
    if isinstance(origin, Crosswalk):
        if origin.policy != policy.id:
            return None
        crosswalks.check_codes(origin, policy)
        return crosswalks.closed(origin, policy)
    if origin.id == policy.id:
        return same(origin, policy)
    name = _name(origin, policy)
    for folder in (taxonomy, None):
        if name in crosswalks.names(folder):
            crosswalk = crosswalks.load(name, folder)
            if (crosswalk.origin, crosswalk.policy) != (origin.id, policy.id):
                raise ConfigError(f"crosswalk {name}: its `origin` must be {origin.id} and its `policy` {policy.id}")
            crosswalks.check_total(crosswalk, origin, policy)
            return crosswalk
    return None


def same(origin: Policy, policy: Policy) -> Crosswalk:
    """The crosswalk between two versions of one policy: a code stands for itself."""
    return Crosswalk(
        name=f"{origin.id}_to_{policy.id}",
        policy=policy.id,
        title="Equal codes of the same policy",
        origin=origin.id,
        mapped={code: (code,) for code in origin.codes if code in policy.codes},
        outside={code: "the other version does not have it" for code in origin.codes if code not in policy.codes},
        unmapped={},
        beyond={code: "the first version does not have it" for code in policy.codes if code not in origin.codes},
    )


def compose(first: Crosswalk, second: Crosswalk) -> Crosswalk:
    """The crosswalk from the labels of `first` to the policy of `second`, whose labels are the codes of `first`.

    It claims no more than both do: what the policy between does not cover is unmapped, and a code that reaches beyond
    the policy between, or holds something that does, is beyond the labels.
    """
    possible = {entry.label: _possible(first, second, entry) for entry in first.entries.values()}
    entries = [_through(first, second, entry, possible[entry.label]) for entry in first.entries.values()]
    within = {
        code: tuple(entry.label for entry in entries if code in possible[entry.label].difference(entry.codes))
        for code in second.codes
    }
    return dataclasses.replace(
        first,
        name=f"{first.name}+{second.name}",
        policy=second.policy,
        title=f"{first.title}; then {second.title}",
        mapped={entry.label: entry.codes for entry in entries if entry.kind == "mapped"},
        either={entry.label: entry.codes for entry in entries if entry.kind == "either"},
        outside={entry.label: entry.reason for entry in entries if entry.kind == "outside"},
        unmapped={entry.label: entry.reason for entry in entries if entry.kind == "unmapped"},
        within={code: labels for code, labels in within.items() if labels},
        beyond=_beyond(first, second),
    )


def _through(first: Crosswalk, second: Crosswalk, entry: Entry, possible: Set[str]) -> Entry:
    """What a label of `first` says under the policy of `second`, of which it may violate the codes `touched`."""
    if not possible:
        return Entry(entry.label, "outside", (), entry.reason or _reasons(second, entry.codes))
    if entry.kind == "unmapped":
        return entry
    if entry.kind == "outside":
        return Entry(entry.label, "unmapped", (), f"{first.policy} does not cover it: {entry.reason}")
    steps = [second.entries[second.key(code)] for code in entry.codes]
    sure = [set(step.codes) if step.kind == "mapped" else set() for step in steps]
    certain = set().union(*sure) if entry.kind == "mapped" else set.intersection(*sure)
    if certain:
        return Entry(entry.label, "mapped", tuple(code for code in second.codes if code in certain))
    coded = [step for step in steps if step.codes]
    if coded and (entry.kind == "mapped" or len(coded) == len(steps)):
        # Of a label that violates all its codes, the most specific one is enough.
        chosen = [min(coded, key=lambda step: len(step.codes))] if entry.kind == "mapped" else coded
        codes = {code for step in chosen for code in step.codes}
        return Entry(entry.label, "either", tuple(code for code in second.codes if code in codes))
    return Entry(entry.label, "unmapped", (), _reasons(second, entry.codes))


def _reasons(second: Crosswalk, codes: Sequence[str]) -> str:
    steps = [second.entries[second.key(code)] for code in codes]
    return "; ".join(f"{step.label}: {step.reason or step.kind}" for step in steps)


def _possible(first: Crosswalk, second: Crosswalk, entry: Entry) -> frozenset[str]:
    """The codes of `second` that content with a label of `first` violates or may violate."""
    # What the policy between does not cover, only a code that goes beyond it can.
    rest = frozenset(second.beyond) if entry.kind in ("outside", "unmapped") else frozenset()
    possible = frozenset() if entry.kind == "outside" else first.possible(entry.label)
    steps = [second.key(code) for code in possible.union(entry.codes)]
    return rest.union(*(second.possible(key).union(second.entries[key].codes) for key in steps))


def _beyond(first: Crosswalk, second: Crosswalk) -> dict[str, str]:
    """The codes of `second` that cover what no label of `first` names."""
    reasons: dict[str, str] = {}
    for code in first.codes:
        if code in first.beyond:
            entry = second.entries[second.key(code)]
            reason = f"it covers part of {code}: {first.beyond[code]}"
            reasons |= {end: reasons.get(end, reason) for end in second.possible(code).union(entry.codes)}
    return {
        code: second.beyond.get(code) or reasons[code] for code in second.codes if code in {*second.beyond, *reasons}
    }
