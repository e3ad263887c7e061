"""The database behind `ports.Store`.

Statements are written once (`*_rows`, `*_reads`, `*_writes`, `filters`), as PostgreSQL takes them;
adapters run them (`postgres`, `sqlite`) and translate what differs. `migrations/` holds the schema.
"""

from photinus_core.store.postgres import PostgresStore
from photinus_core.store.postgres_settings import PostgresSettings, check_url
from photinus_core.store.sqlite import SqliteStore

__all__ = ["PostgresSettings", "PostgresStore", "SqliteStore", "check_url"]
