"""Training: data, loops and export of guards."""
