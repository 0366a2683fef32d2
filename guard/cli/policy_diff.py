"""`guard policy diff`: the differences between two policies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from guard.cli import names

if TYPE_CHECKING:
    from guard.policy.diff import Change, PolicyDiff, Value

DIFFERENT = 1


def diff(
    old: Annotated[
        str, typer.Argument(metavar="A", help="A shipped policy or a policy file.", autocompletion=names.policies)
    ],
    new: Annotated[
        str, typer.Argument(metavar="B", help="The policy to compare it with.", autocompletion=names.policies)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare policy A with policy B: categories by code, field by field. Exit code 1 if they differ.

    Example: guard policy diff mlcommons my.yaml
    """
    from guard import policy
    from guard.policy import diff as policy_diff

    difference = policy_diff.diff(policy.load(old), policy.load(new))
    if as_json:
        typer.echo(json.dumps(policy_diff.as_dict(difference), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(_lines(difference)))
    if not difference.empty:
        raise typer.Exit(DIFFERENT)


def _lines(difference: PolicyDiff) -> list[str]:
    if difference.empty:
        return [f"no difference: digest {difference.new.digest}"]
    lines = [f"--- {difference.old.id} {difference.old.version} {difference.old.digest[:12]}"]
    lines.append(f"+++ {difference.new.id} {difference.new.version} {difference.new.digest[:12]}")
    lines += [line for change in difference.fields for line in _change(change, "")]
    if difference.order is not None:
        lines += _change(difference.order, "")
    lines += [f"- {category.code}: {category.name}" for category in difference.removed]
    lines += [f"+ {category.code}: {category.name}" for category in difference.added]
    for code, changes in difference.changed.items():
        lines.append(f"  {code}")
        lines += [line for change in changes for line in _change(change, "    ")]
    return lines


def _change(change: Change, indent: str) -> list[str]:
    old, new = change.old, change.new
    if change.field in ("includes", "excludes") and isinstance(old, tuple) and isinstance(new, tuple):
        removed, added = [line for line in old if line not in new], [line for line in new if line not in old]
        if removed or added:
            marked = [f"- {line}" for line in removed] + [f"+ {line}" for line in added]
            return [f"{indent}{change.field}", *(f"{indent}  {line}" for line in marked)]
        return [f"{indent}{change.field}: same lines, reordered or repeated"]
    return [f"{indent}{change.field}", f"{indent}  - {_value(old)}", f"{indent}  + {_value(new)}"]


def _value(value: Value) -> str:
    if value is None or value == "":
        return "(none)"
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if isinstance(value, str) else f"{value:g}"
