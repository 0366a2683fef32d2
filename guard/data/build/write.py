"""The stored form of a data set: one parquet file per split, with declared columns, and one for the dropped rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from guard.data.build import source_part
from guard.data.build.row_index import KINDS, RowIndex
from guard.data.build.rule_files import RULES, RuleWriter, rule_features
from guard.data.build.select import DEVELOPMENT, REASONS, SPLITS, Selection
from guard.data.sources.description import Source
from guard.digest import file_digest
from guard.errors import need
from guard.jobs.ledger import Ledger

PAIRS = "pairs"  # files of preference pairs: pairs-train.parquet and so on
FORMS = ("", PAIRS, RULES)  # of stored rows; the usual one has files with the names of the splits
DROPS = "drops.parquet"
GROUP = 5000  # rows of a row group


def features() -> Any:
    """The columns of every split, as `datasets.Features`."""
    datasets = need("datasets", "data")
    text = datasets.Value("string")
    return datasets.Features(
        {
            "id": text,
            "messages": datasets.List({"role": text, "content": text}),
            "label": text,
            "categories": datasets.List(text),
            "categories_known": datasets.Value("bool"),
            "undecided": datasets.List(text),
            "source": text,
            "licence": text,
            "role": text,
            "language": text,
            "kind": text,
            "cluster": text,
            "weight": datasets.Value("float64"),
        }
    )


def pair_features() -> Any:
    """The columns of preference pairs: `chosen` is preferred to `rejected` as the answer to `prompt`."""
    datasets = need("datasets", "data")
    text = datasets.Value("string")
    named = dict.fromkeys(("chosen", "rejected", "source", "licence", "role", "language", "cluster"), text)
    turns = datasets.List({"role": text, "content": text})
    return datasets.Features({"id": text, "prompt": turns, **named, "weight": datasets.Value("float64")})


def write_splits(
    ledger: Ledger,
    sources: Sequence[Source],
    index: RowIndex,
    selection: Selection,
    rule_writer: RuleWriter,
    folder: Path,
) -> dict[str, str]:
    """Write the files of all splits and of the dropped rows into `folder`; return their sha256 (hex) by name.

    train, dev and test are always written, development and the files of pairs and of rules only if they have rows.
    """
    import numpy as np

    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    form = np.where(index.kind == KINDS.index("pair"), FORMS.index(PAIRS), FORMS.index(""))
    form[index.rule_key != 0] = FORMS.index(RULES)
    kept = selection.kept
    names = {(split, name): f"{name}-{split}.parquet".removeprefix("-") for name in FORMS for split in SPLITS}
    files = {
        key: name
        for key, name in names.items()
        if (not key[1] and key[0] != DEVELOPMENT)
        or (kept & (selection.split == SPLITS.index(key[0])) & (form == FORMS.index(key[1]))).any()
    }
    stored = {"": features, PAIRS: pair_features, RULES: rule_features}
    with ExitStack() as stack:
        writers = {
            key: stack.enter_context(parquet.ParquetWriter(folder / name, stored[key[1]]().arrow_schema))
            for key, name in files.items()
        }
        buffers: dict[tuple[str, str], list[Any]] = {key: [] for key in files}
        drops = stack.enter_context(parquet.ParquetWriter(folder / DROPS, source_part.drop_schema()))

        def flush(key: tuple[str, str]) -> None:
            if buffers[key]:
                group = arrow.concat_tables(buffers[key]).combine_chunks()
                writers[key].write_table(group, row_group_size=GROUP)
                buffers[key].clear()

        start = 0
        for number, source in enumerate(sources):
            for batch in source_part.batches(ledger, number, source_part.DROPS):
                drops.write_table(arrow.Table.from_batches([batch]))
            for batch in source_part.batches(ledger, number, source_part.ROWS):
                rows = np.arange(start, start + batch.num_rows)
                start += batch.num_rows
                dropped = rows[~kept[rows]]
                if len(dropped):
                    unselected = batch.filter(arrow.array(~kept[rows]))
                    drops.write_table(_drops(unselected, dropped, source, index, selection))
                for key in files:
                    split = SPLITS.index(key[0])
                    mask = kept[rows] & (selection.split[rows] == split) & (form[rows] == FORMS.index(key[1]))
                    if mask.any():
                        chosen, schema = batch.filter(arrow.array(mask)), writers[key].schema
                        if key[1] == RULES:
                            table = rule_writer.table(chosen, rows[mask], source, split, schema)
                        else:
                            convert = _pairs if key[1] else _examples
                            columns = convert(chosen, rows[mask], source, selection)
                            table = arrow.table([columns[name] for name in schema.names], schema=schema)
                        buffers[key].append(table)
                        if sum(buffer.num_rows for buffer in buffers[key]) >= GROUP:
                            flush(key)
        for key in files:
            flush(key)
    return {name: file_digest(folder / name) for name in (*files.values(), DROPS)}


def _common(batch: Any, rows: Any, source: Source, selection: Selection) -> dict[str, Any]:
    arrow = need("pyarrow", "data")
    count = batch.num_rows
    return {
        "id": _hex(batch["id"]),
        "source": arrow.repeat(source.name, count),
        "licence": arrow.repeat(source.licence, count),
        "role": arrow.repeat(source.role, count),
        "language": batch["language"],
        "cluster": _hex(arrow.array(selection.cluster[rows])),
        "weight": arrow.array(selection.weight[rows]),
    }


def _examples(batch: Any, rows: Any, source: Source, selection: Selection) -> dict[str, Any]:
    """A safe row violates nothing; the categories of an unsafe one are known if its source names them."""
    arrow, compute = need("pyarrow", "data"), need("pyarrow.compute", "data")
    named = compute.greater(compute.list_value_length(batch["categories"]), 0)
    return {
        **_common(batch, rows, source, selection),
        "messages": batch["messages"].cast(features().arrow_schema.field("messages").type),
        "label": batch["label"],
        "categories": batch["categories"].cast(arrow.list_(arrow.string())),
        "categories_known": compute.or_(compute.equal(batch["label"], "safe"), named),
        "undecided": batch["undecided"].cast(arrow.list_(arrow.string())),
        "kind": batch["kind"],
    }


def _pairs(batch: Any, rows: Any, source: Source, selection: Selection) -> dict[str, Any]:
    turns = batch["messages"].cast(pair_features().arrow_schema.field("prompt").type)
    return {
        **_common(batch, rows, source, selection),
        "prompt": turns,
        "chosen": batch["chosen"],
        "rejected": batch["rejected"],
    }


def _drops(batch: Any, rows: Any, source: Source, index: RowIndex, selection: Selection) -> Any:
    arrow = need("pyarrow", "data")
    reasons = [REASONS[code] for code in selection.reason[rows].tolist()]
    originals = selection.duplicate_of[rows]
    detail = [
        "" if original == row else f"{id:016x}"
        for row, original, id in zip(rows.tolist(), originals.tolist(), index.id[originals].tolist(), strict=True)
    ]
    columns = [arrow.repeat(source.name, len(rows)), _hex(batch["id"]), batch["place"], reasons, detail]
    return arrow.table(
        [arrow.array(column) if isinstance(column, list) else column for column in columns],
        schema=source_part.drop_schema(),
    )


def _hex(ids: Any) -> Any:
    return need("pyarrow", "data").array([f"{id:016x}" for id in ids.to_pylist()])
