"""Confounds: what predicts the label of a data set without being what the label is about."""
