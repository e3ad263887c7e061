"""The durable memory of a connector: idempotency keys, epochs, and updates not yet acked.

It knows the protocol's messages, and neither gRPC nor the author kit, which stands on it.
"""

from photinus_journal.errors import JournalError, KeyReused, TooLarge, Unusable
from photinus_journal.journal import (
    ERROR_BYTES_MAX,
    TERMINAL,
    Begun,
    OperationJournal,
    Scope,
    StoredUpdate,
    cut,
    operation_of,
)
from photinus_journal.sqlite_epochs import EPOCHS_SCHEMA, SqliteEpochs
from photinus_journal.sqlite_journal import RETENTION_DEFAULT_S, SqliteJournal
from photinus_journal.sqlite_writer import SqliteWriter

__all__ = [
    "EPOCHS_SCHEMA",
    "ERROR_BYTES_MAX",
    "RETENTION_DEFAULT_S",
    "TERMINAL",
    "Begun",
    "JournalError",
    "KeyReused",
    "OperationJournal",
    "Scope",
    "SqliteEpochs",
    "SqliteJournal",
    "SqliteWriter",
    "StoredUpdate",
    "TooLarge",
    "Unusable",
    "cut",
    "operation_of",
]
