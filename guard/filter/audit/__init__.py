"""Auditing of filtered data: a stratified sample for people to label, and what their labels say about the guard."""
