"""The one reader of conversation rows: JSONL, CSV, TSV, Parquet and Arrow files, some thousand rows at a time."""

from guard.jobs.rows.reasons import reason_kind
from guard.jobs.rows.row_file import SUFFIXES, Kind, RowFile, Shard, format_of, open_rows
from guard.jobs.rows.table import as_json
from guard.jobs.rows.text_file import GZIP, PACKED, packed

__all__ = [
    "GZIP",
    "PACKED",
    "SUFFIXES",
    "Kind",
    "RowFile",
    "Shard",
    "as_json",
    "format_of",
    "open_rows",
    "packed",
    "reason_kind",
]
