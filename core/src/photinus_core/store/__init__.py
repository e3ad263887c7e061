"""The database behind `ports.Store`.

Statements are written once (`*_rows`, `*_reads`, `*_writes`, `filters`), as PostgreSQL takes them;
adapters run them (`postgres`, `sqlite`) and translate what differs. `migrations/` holds the schema.
"""

from typing import TYPE_CHECKING, Any

from photinus_core.store.postgres_settings import PostgresSettings, check_url
from photinus_core.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from photinus_core.store.postgres import PostgresStore

__all__ = ["PostgresSettings", "PostgresStore", "SqliteStore", "check_url"]


def __getattr__(name: str) -> Any:
    """Loads PostgreSQL's adapter, with its library, for who uses it: others start sooner."""
    if name != "PostgresStore":
        raise AttributeError(name)
    from photinus_core.store.postgres import PostgresStore  # noqa: PLC0415 - as said

    return PostgresStore
