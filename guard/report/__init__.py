"""Reports: HTML, plots and tables."""
