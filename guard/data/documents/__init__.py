"""Documents: harmless texts of many genres, generated from slots: pages, papers, logs, settings and programs."""
