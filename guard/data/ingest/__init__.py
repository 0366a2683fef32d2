"""Ingestion: rows of one source, labelled, cleaned, identified by language and freed of held-out material."""
