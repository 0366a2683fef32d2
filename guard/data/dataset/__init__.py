"""Data sets on disk: opened, read, sampled, compared and described."""
