"""Views: canonical forms of disguised text."""
