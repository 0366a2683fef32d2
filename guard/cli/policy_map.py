"""`guard policy map`: map the labels of a policy or data set to another policy, and relabel rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guard.cli import names, report_file

if TYPE_CHECKING:
    from guard.data.dataset.relabel import Tally
    from guard.policy import Policy
    from guard.policy.crosswalk import Crosswalk, Entry
    from guard.policy.route import Route

_SAYS = {"mapped": "is", "either": "is one of", "outside": "outside", "unmapped": "unclear"}


def map_policy(
    origin: Annotated[
        str,
        typer.Argument(
            metavar="FROM",
            help="A policy (name or file), or the crosswalk of a data set's labels (name).",
            autocompletion=names.policies,
        ),
    ],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="A policy (name or file).", autocompletion=names.policies)
    ],
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="CODES", help="Show only these codes.", show_default=False)
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(metavar="IN.jsonl", help="Relabel these rows, with `label` and `categories`.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="OUT.jsonl", help="The file for the relabelled rows.")] = None,
    taxonomy: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, exists=True, help="A folder with your own crosswalks/, searched before the shipped ones."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Map the labels of FROM to policy TO, directly or through mlcommons.

    With --rows and --out, labelled rows of FROM become rows of TO: safe rows stay safe, unsafe rows whose categories
    are all outside TO become safe, rows that cannot be mapped are left out. `undecided` of a row lists the codes of TO
    that its label leaves open.

    Example: guard policy map beavertails mlcommons
    """
    from guard import policy

    if (rows is None) != (out is None):
        raise typer.BadParameter("give --rows and --out together")
    if rows is not None and labels:
        raise typer.BadParameter("CODES filter the table and cannot be combined with --rows")
    from guard.data.dataset import relabel
    from guard.policy import route

    start = _origin(origin, taxonomy)
    mapping = route.between(start, policy.load(target), taxonomy)
    if rows is not None and out is not None:
        report_file.check(out)
        tally = relabel.relabel_file(rows, out, mapping.crosswalk)
        _summarise(tally, out, as_json)
        return
    codes = start.codes if isinstance(start, policy.Policy) else [entry.label for entry in start.entries.values()]
    shown = _entries(mapping.crosswalk, labels or codes)
    summary = _as_dict(mapping, start, shown, whole=not labels)
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        _show(summary, shown)


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
        raise PolicyError(f"{mistake}. Crosswalks of native labels: {', '.join(native)}") from None


def _entries(crosswalk: Crosswalk, labels: Sequence[str]) -> list[Entry]:
    from guard.errors import PolicyError

    entries = [crosswalk.entry(label) for label in labels]
    unknown = [label[:48] for label, entry in zip(labels, entries, strict=True) if entry is None]
    if unknown:
        listed = ", ".join(entry.label for entry in crosswalk.entries.values())
        raise PolicyError(f"crosswalk {crosswalk.name} does not list {', '.join(unknown)}; it lists: {listed}")
    return [entry for entry in entries if entry is not None]


def _as_dict(mapping: Route, start: Policy | Crosswalk, shown: list[Entry], whole: bool) -> dict[str, Any]:
    from guard.policy import Policy

    crosswalk = mapping.crosswalk
    summary: dict[str, Any] = {
        "from": start.id if isinstance(start, Policy) else start.name,
        "to": crosswalk.policy,
        "through": list(mapping.through),
        "labels": {
            entry.label: {"says": entry.kind, **({"codes": entry.codes} if entry.codes else {"reason": entry.reason})}
            for entry in shown
        },
    }
    return {**summary, "within": crosswalk.within, "beyond": crosswalk.beyond} if whole else summary


def _show(summary: dict[str, Any], shown: list[Entry]) -> None:
    from guard.report.tables import show, table

    through = f" through {', '.join(summary['through'])}" if summary["through"] else ""
    typer.echo(f"{summary['from']} to {summary['to']}{through}")
    rows = [(entry.label, _SAYS[entry.kind], ", ".join(entry.codes) or entry.reason) for entry in shown]
    show(table("label", "", "codes, or why none", rows=rows))
    if summary.get("within"):
        typer.echo("violated by some content with these labels:")
        show(table("code", "labels", rows=[(code, ", ".join(labels)) for code, labels in summary["within"].items()]))
    if summary.get("beyond"):
        typer.echo("may be violated by content without any of the labels:")
        show(table("code", "why", rows=list(summary["beyond"].items())))


def _summarise(tally: Tally, out: Path, as_json: bool) -> None:
    summary = tally.as_dict()
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    typer.echo(
        f"read {tally.read} = safe {tally.safe} + unsafe {tally.unsafe} + became safe {tally.became_safe} "
        f"+ left out {tally.dropped.total()}"
    )
    typer.echo(f"undecided about some codes: {tally.undecided}")
    for reason, count in summary["dropped"].items():
        typer.echo(f"  left out, {reason}: {count}")
    typer.echo(f"wrote {out}")
