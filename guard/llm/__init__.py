"""OpenAI-compatible chat endpoints: a client that retries, paces, caches and counts."""
