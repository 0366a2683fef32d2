"""The encoder guard: model, steps, export."""
