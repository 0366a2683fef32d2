"""Training: what guards learn from, how, and what is exported."""
