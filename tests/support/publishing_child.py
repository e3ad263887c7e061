"""A leading replica that publishes a value to a shared storage which takes it and never answers.

Run as `python -m tests.support.publishing_child DATABASE DATA_ID IDEMPOTENCY_KEY`, DATABASE being a URL or the path of
a file. It says the key of the operation once the storage has the bytes; then it waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from photinus_core.data.publishing import DataPublisher, DataUploads
from photinus_core.data.service import DataService
from photinus_core.host.fakes import FakeWorld
from photinus_core.model.ids import Epoch, Uuid
from photinus_core.model.ledger import OperationType
from photinus_core.operations.service import OperationService
from photinus_core.operations.submission import Submissions
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import CallKey
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, Store
from photinus_core.store import PostgresSettings, PostgresStore, SqliteStore

from tests.support.store_records import NS

FENCE = Fence("namespace/test", Epoch(1))


class SilentStorage:
    """Takes what it is given, says so, and never answers."""

    async def upload(self, call: CallKey, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        content = b"".join([chunk async for chunk in chunks])
        print(call.key, len(content), flush=True)
        await asyncio.Event().wait()
        return "", 0

    def download(self, payload_ref: str, max_bytes: int = 0) -> AsyncIterator[bytes]:
        raise AssertionError("nothing is downloaded here")


async def opened(database: str) -> Store:
    """Opens a database as a replica does."""
    if "://" in database:
        return await PostgresStore.open(PostgresSettings(database, connections_max=6))
    return await SqliteStore.open(Path(database))


async def main(database: str, data_id: str, key: str) -> None:
    """Publishes, until it is killed."""
    store = await opened(database)
    await store.raise_epoch(FENCE.role, FENCE.epoch)
    async with FakeWorld() as world:
        exchange = world.member("alice").data_exchange
        scope = Scope(store, SystemClock(), NS, NS)
        operations = OperationService(store, NS, scope.clock)
        uploads = DataUploads(scope, FENCE, exchange, SilentStorage())
        runners = {OperationType.SHAREDSTORAGE_UPLOAD_VALUE: uploads.value}
        operations.lead(Submissions(scope, FENCE, runners, lambda _: False))
        data = DataService(store, NS, scope.clock, exchange)
        await DataPublisher(scope, data, operations, "ipfs").publish_value(Uuid(data_id), key)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
