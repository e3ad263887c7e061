"""A small typed client of photinus.api.v1."""
