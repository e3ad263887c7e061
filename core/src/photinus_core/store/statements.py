"""All statements of this package in one class each, for adapters to run."""

from __future__ import annotations

from photinus_core.store.batch_reads import BatchReading
from photinus_core.store.batch_writes import BatchWriting
from photinus_core.store.chart_rows import ChartReading
from photinus_core.store.dead_letter_rows import DeadLetterReading, DeadLetterWriting
from photinus_core.store.event_rows import EventReading, EventWriting
from photinus_core.store.filters import Querying
from photinus_core.store.ledger_rows import LedgerReading, LedgerWriting
from photinus_core.store.message_reads import MessageReading
from photinus_core.store.message_writes import MessageWriting
from photinus_core.store.network_rows import NetworkReading, NetworkWriting
from photinus_core.store.upkeep import UpkeepReading, UpkeepWriting


class ReadStatements(
    MessageReading,
    BatchReading,
    NetworkReading,
    LedgerReading,
    EventReading,
    DeadLetterReading,
    UpkeepReading,
    ChartReading,
    Querying,
):
    """Everything `ports.Reader` asks, over `session.Session`."""


class WriteStatements(
    ReadStatements,
    MessageWriting,
    BatchWriting,
    NetworkWriting,
    LedgerWriting,
    EventWriting,
    DeadLetterWriting,
    UpkeepWriting,
):
    """Everything `ports.WriteTransaction` does, over `session.WriteSession`."""
