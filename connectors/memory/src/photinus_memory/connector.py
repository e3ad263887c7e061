"""One class with all four contracts: what an instance is used for follows from who calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from photinus.connector.v1 import connector_pb2 as connector
from photinus_sdk import Events, Passed, SqliteJournal, Subscription

from photinus_memory.exchange import MESSAGE_BYTES_MAX, MemoryExchange
from photinus_memory.ledger import MemoryLedger
from photinus_memory.storage import MemoryStorage
from photinus_memory.tokens import MemoryTokens
from photinus_memory.world import World

RETENTION_S = 7 * 86_400


class MemoryConnector(
    MemoryLedger,
    MemoryTokens,
    MemoryExchange,
    MemoryStorage,
    name="memory",
    version="0.1.0",
    vendor="Photinus",
    stability=connector.STABILITY_BETA,
    multi_instance=True,
    capabilities=(connector.CAPABILITY_RECEIPTS, connector.CAPABILITY_RESUME),
    limits=connector.Limits(
        max_message_bytes=MESSAGE_BYTES_MAX,
        max_in_flight=4096,
        idempotency_retention_s=RETENTION_S,
    ),
):
    """A ledger, token pools, a data exchange and a shared storage in memory, for tests.

    Instances of one process share a world. Give each contract of each member an instance of its own: an instance has
    one event stream for a namespace.
    """

    @classmethod
    def open_journal(cls, data_dir: Path) -> SqliteJournal:
        """In memory, unless the world is kept."""
        path = data_dir / "journal.sqlite" if cls.world.is_kept else None
        return SqliteJournal(path, retention_s=RETENTION_S)

    async def listen(self, subscription: Subscription) -> AsyncIterator[Events | Passed]:
        is_mail = subscription.listener.WhichOneof("filter") == "destination"
        source = self.receive(subscription) if is_mail else self.follow(subscription)
        async for found in source:
            yield found


def connector_over(world: World) -> type[MemoryConnector]:
    """The connector's class for instances of one world."""
    return type("MemoryConnector", (MemoryConnector,), {"world": world})
