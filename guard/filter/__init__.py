"""Filtering of data sets: every row is kept, dropped or quarantined, and counted."""

from guard.filter.mapping import filter_fn, map_fn

__all__ = ["filter_fn", "map_fn"]
