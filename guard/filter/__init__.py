"""Filtering of data sets: every row is kept, dropped or quarantined, and counted."""
