"""`guard policy diff`: what changes from one policy to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from guard.policy.diff import Change, PolicyDiff, Value

DIFFERENT = 1


def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="A shipped policy or a policy file.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="B", help="What it is compared with.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What changes from policy A to policy B: categories by code, field by field. Exit code 1 if anything does."""
    from guard import policy
    from guard.policy import diff as policy_diff

    found = policy_diff.diff(policy.load(old), policy.load(new))
    if as_json:
        typer.echo(json.dumps(policy_diff.as_dict(found), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(_lines(found)))
    if not found.empty:
        raise typer.Exit(DIFFERENT)


def _lines(found: PolicyDiff) -> list[str]:
    if found.empty:
        return [f"no difference: digest {found.new.digest}"]
    lines = [f"--- {found.old.id} {found.old.version} {found.old.digest[:12]}"]
    lines.append(f"+++ {found.new.id} {found.new.version} {found.new.digest[:12]}")
    lines += [line for change in found.fields for line in _change(change, "")]
    if found.order is not None:
        lines += _change(found.order, "")
    lines += [f"- {category.code}: {category.name}" for category in found.removed]
    lines += [f"+ {category.code}: {category.name}" for category in found.added]
    for code, changes in found.changed.items():
        lines.append(f"  {code}")
        lines += [line for change in changes for line in _change(change, "    ")]
    return lines


def _change(change: Change, indent: str) -> list[str]:
    old, new = change.old, change.new
    if change.field in ("includes", "excludes") and isinstance(old, tuple) and isinstance(new, tuple):
        gone, come = [line for line in old if line not in new], [line for line in new if line not in old]
        if gone or come:
            marked = [f"- {line}" for line in gone] + [f"+ {line}" for line in come]
            return [f"{indent}{change.field}", *(f"{indent}  {line}" for line in marked)]
        return [f"{indent}{change.field}: the same lines in another order, or some repeated"]
    return [f"{indent}{change.field}", f"{indent}  - {_value(old)}", f"{indent}  + {_value(new)}"]


def _value(value: Value) -> str:
    if value is None or value == "":
        return "(none)"
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if isinstance(value, str) else f"{value:g}"
