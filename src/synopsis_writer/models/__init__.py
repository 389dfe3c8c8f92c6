"""The model client: one small protocol, two implementations, wrapped by cache, budget and rate limit."""
