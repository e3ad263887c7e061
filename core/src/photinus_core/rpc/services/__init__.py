"""Servicers of `photinus.api.v1`, one module per area of the API."""
