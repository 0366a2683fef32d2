"""`guard policy map`: what the labels of one policy or data set are under another policy; rows relabelled by it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from guard.data.dataset.relabel import Tally
    from guard.policy import Policy
    from guard.policy.crosswalk import Crosswalk, Entry
    from guard.policy.route import Route

_SAYS = {"mapped": "is", "either": "is one of", "outside": "outside", "unmapped": "unclear"}


def map_policy(
    origin: Annotated[
        str,
        typer.Argument(metavar="FROM", help="A policy (name or file), or a crosswalk of a data set's labels by name."),
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="A policy, name or file.", show_default=False)],
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="CODES", help="Show only these.", show_default=False)
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(metavar="IN.jsonl", help="Relabel these rows, with `label` and `categories`.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="OUT.jsonl", help="Where the relabelled rows go.")] = None,
    taxonomy: Annotated[
        Path | None,
        typer.Option(file_okay=False, exists=True, help="A folder with your own crosswalks/, used before the shipped."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What the labels of FROM are under policy TO, directly or through mlcommons.

    With --rows and --out, labelled rows of FROM become rows of TO: safe rows stay safe, unsafe ones whose categories
    are all outside TO become safe, those of which nothing can be said are left out. `undecided` of a row names the
    codes about which it says nothing.
    """
    from guard import policy

    if (rows is None) != (out is None):
        raise typer.BadParameter("give --rows and --out together")
    if rows is not None and labels:
        raise typer.BadParameter("CODES are for the table; leave them out with --rows")
    from guard.data.dataset import relabel
    from guard.policy import route

    start = _origin(origin, taxonomy)
    found = route.between(start, policy.load(target), taxonomy)
    if rows is not None and out is not None:
        tally = relabel.relabel_file(rows, out, found.crosswalk)
        _tell(tally, out, as_json)
        return
    codes = start.codes if isinstance(start, policy.Policy) else [entry.label for entry in start.entries.values()]
    shown = _entries(found.crosswalk, labels or codes)
    told = _as_dict(found, start, shown, whole=not labels)
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _show(told, shown)


def _origin(name: str, taxonomy: Path | None) -> Policy | Crosswalk:
    """The policy `name`, or the crosswalk of that name if there is no such policy."""
    from guard import policy
    from guard.errors import PolicyError
    from guard.policy import crosswalk

    try:
        return policy.load(name)
    except PolicyError as mistake:
        if name in policy.shipped() or "/" in name or name.endswith((".yaml", ".yml", ".json")):
            raise
        for folder in (taxonomy, None):
            if name in crosswalk.names(folder):
                return crosswalk.load(name, folder)
        native = [known for known in crosswalk.names() if "_to_" not in known]
        raise PolicyError(f"{mistake}. Nor is it a crosswalk of native labels: {', '.join(native)}") from None


def _entries(crosswalk: Crosswalk, labels: Sequence[str]) -> list[Entry]:
    from guard.errors import PolicyError

    found = [crosswalk.entry(label) for label in labels]
    unknown = [label[:48] for label, entry in zip(labels, found, strict=True) if entry is None]
    if unknown:
        listed = ", ".join(entry.label for entry in crosswalk.entries.values())
        raise PolicyError(f"crosswalk {crosswalk.name} does not list {', '.join(unknown)}; it lists: {listed}")
    return [entry for entry in found if entry is not None]


def _as_dict(found: Route, start: Policy | Crosswalk, shown: list[Entry], whole: bool) -> dict[str, Any]:
    from guard.policy import Policy

    crosswalk = found.crosswalk
    told: dict[str, Any] = {
        "from": start.id if isinstance(start, Policy) else start.name,
        "to": crosswalk.policy,
        "through": list(found.through),
        "labels": {
            entry.label: {"says": entry.kind, **({"codes": entry.codes} if entry.codes else {"reason": entry.reason})}
            for entry in shown
        },
    }
    return {**told, "within": crosswalk.within, "beyond": crosswalk.beyond} if whole else told


def _show(told: dict[str, Any], shown: list[Entry]) -> None:
    from guard.report.tables import show, table

    through = f" through {', '.join(told['through'])}" if told["through"] else ""
    typer.echo(f"{told['from']} to {told['to']}{through}")
    rows = [(entry.label, _SAYS[entry.kind], ", ".join(entry.codes) or entry.reason) for entry in shown]
    show(table("label", "", "codes, or why none", rows=rows))
    if told.get("within"):
        typer.echo("violated by some content with these labels:")
        show(table("code", "labels", rows=[(code, ", ".join(labels)) for code, labels in told["within"].items()]))
    if told.get("beyond"):
        typer.echo("may be violated by content without any of the labels:")
        show(table("code", "why", rows=list(told["beyond"].items())))


def _tell(tally: Tally, out: Path, as_json: bool) -> None:
    told = tally.as_dict()
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    typer.echo(
        f"read {tally.read} = safe {tally.safe} + unsafe {tally.unsafe} + became safe {tally.became_safe} "
        f"+ left out {tally.dropped.total()}"
    )
    typer.echo(f"undecided about some codes: {tally.undecided}")
    for reason, count in told["dropped"].items():
        typer.echo(f"  left out, {reason}: {count}")
    typer.echo(f"wrote {out}")
