"""Protocols that the rest of the core is written against: store, elector, clock, connectors.

Adapters behind them live in `store`, `cluster` and `host`; nothing here does I/O.
"""
