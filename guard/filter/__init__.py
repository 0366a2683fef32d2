"""Filtering of data sets: rows judged, kept or dropped, and accounted for."""
