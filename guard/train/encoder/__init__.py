"""Training and export of the encoder guard."""
