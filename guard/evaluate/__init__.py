"""Evaluation: labelled sets, reports, model cards."""
