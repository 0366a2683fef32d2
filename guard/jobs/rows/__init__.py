"""The one reader of conversation rows: JSONL, CSV, TSV and Parquet files, some thousand rows at a time."""

from guard.jobs.rows.parquet import as_json
from guard.jobs.rows.reasons import reason_kind
from guard.jobs.rows.row_file import SUFFIXES, Kind, RowFile, Shard, format_of, open_rows
from guard.jobs.rows.text_file import GZIP

__all__ = ["GZIP", "SUFFIXES", "Kind", "RowFile", "Shard", "as_json", "format_of", "open_rows", "reason_kind"]
