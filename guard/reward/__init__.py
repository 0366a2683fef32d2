"""The guard as a reward model."""
