"""The causal guard: rows, trainer, export."""
