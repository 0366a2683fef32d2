"""`guard data convert`: convert labelled rows from any supported format to guard's format or to trainers' formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from guard.errors import ConfigError

if TYPE_CHECKING:
    from guard.data.dataset.convert import Tally
    from guard.reward.convert import Account


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Rows: .jsonl, .csv, .xlsx, .parquet …, a saved data set, or a build.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .jsonl or .parquet file.", show_default=False)],
    columns: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A mapping file: the columns and the label values.")
    ] = None,
    policy: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The policy of the rows' category codes.")
    ] = "mlcommons",
    to: Annotated[
        Literal["jsonl", "parquet", "chat", "kto", "preference", "pairs", "best-worst", "unpaired", "guard"] | None,
        typer.Option(help="The output format; default: by the suffix of OUT.", show_default=False),
    ] = None,
    attribute: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of rated answers, the attribute that makes pairs; default: the mean of all."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="The split of a build or of a saved data set, or `all`.")] = "",
) -> None:
    """Convert labelled rows to guard's format, or to those of trainers.

    Without a mapping file, the columns must be called `prompt` (or `text`), `response` or
    `messages`, `label`, `categories`, `id`, `language`, `group`.

    Of reward rows (rankings, ratings, pairs, KTO rows) `pairs` and `best-worst` make pairs, `unpaired` KTO rows, and
    `guard` rows with a verdict; the rows that come from one prompt share its weight.

    Every row is written, left out (because the target format cannot express it) or broken. Broken rows are an error,
    and OUT is not written, unless the mapping file says `on_broken: drop`.

    Example: guard data convert rows.csv rows.jsonl --columns mapping.yaml
    """
    if to == "pairs" or to == "best-worst" or to == "unpaired" or to == "guard":  # as mypy understands it
        from guard.reward.convert import convert_file

        if columns is not None or split:
            raise ConfigError(f"--to {to} reads reward rows, which have no --columns and no --split")
        _account(convert_file(source, out, to, attribute), out)
        return
    if attribute is not None:
        raise ConfigError("--attribute belongs to --to pairs and --to best-worst")
    from guard import policy as policies
    from guard.data.dataset.convert import convert as convert_rows
    from guard.data.sources.user_files import load_mapping

    mapping = None if columns is None else load_mapping(columns)
    tally = convert_rows(source, out, policies.load(policy), to, mapping, split)
    _summarise(tally, out)


def _summarise(tally: Tally, out: Path) -> None:
    if tally.broken.count:
        typer.echo(tally.broken.told(), err=True)
    left_out, broken = tally.left_out.total(), tally.broken.count
    typer.echo(f"read {tally.read:,} = written {tally.written:,} + left out {left_out:,} + broken {broken:,}")
    for reason, count in sorted(tally.left_out.items()):
        typer.echo(f"  left out, {reason}: {count:,}")
    typer.echo(f"wrote {out}")


def _account(account: Account, out: Path) -> None:
    left_out = account.left_out.total()
    typer.echo(f"read {account.read:,} = converted {account.converted:,} + left out {left_out:,}")
    for reason, count in sorted(account.left_out.items()):
        typer.echo(f"  left out, {reason}: {count:,}")
    typer.echo(f"wrote {account.written:,} rows to {out}")
