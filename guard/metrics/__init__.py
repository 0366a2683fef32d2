"""Metrics of a binary classifier, over numpy arrays."""
