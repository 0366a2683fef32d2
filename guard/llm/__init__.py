"""OpenAI-compatible chat endpoints: a client with retries, rate limit, cache and usage counts."""
