"""Evaluation of reward models: what they prefer on held-out rows, and by what they might be misled."""
