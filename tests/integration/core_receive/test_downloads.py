"""Goal: a download that ends while the queue is read again is not begun twice.

Method: a member whose reading of the queue is held until the download it found is over, which is
when its answer is out of date.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from photinus_core.model.ledger import Operation, OperationType

from tests.integration.core_receive.network import Chain, SharedDictionary, member, ref_of
from tests.integration.core_receive.senders import Org, broadcast, claim_org


class HeldReader:
    """A reader whose answer about the queue comes when the first download of it is over."""

    def __init__(self, reader: Any, running: set[Any], held: asyncio.Event) -> None:
        self._reader, self._running, self._held = reader, running, held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def unfinished_operations(
        self, types: Sequence[OperationType], limit: int
    ) -> list[Operation]:
        found: list[Operation] = await self._reader.unfinished_operations(types, limit)
        if any(operation.id in self._running for operation in found):
            self._held.set()
            while any(operation.id in self._running for operation in found):
                await asyncio.sleep(0)
        return found


async def test_a_page_read_while_a_download_ends_does_not_repeat_it(
    tmp_path: Path, storage: SharedDictionary, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = Org("bob")
    sent = broadcast(bob, {"n": 1})
    pins = [chain.pin(claim_org(bob)), chain.pin(sent)]
    storage.hidden.add(ref_of(pins[1]))
    async with member(tmp_path, storage, Org("alice")) as alice:
        held, running = asyncio.Event(), alice.downloads._running
        read = alice.store.read

        @asynccontextmanager
        async def holding(*arguments: Any) -> AsyncIterator[Any]:
            async with read(*arguments) as reader:
                yield HeldReader(reader, running, held)

        async with alice.running():
            await alice.take(pins)
            async with asyncio.timeout(30):
                while ref_of(pins[1]) not in storage.reads:
                    await asyncio.sleep(0.01)
            monkeypatch.setattr(alice.store, "read", holding)
            async with asyncio.timeout(30):
                await held.wait()
            storage.hidden.clear()
            await alice.wait_state(sent)
            reads = storage.reads.count(ref_of(pins[1]))
            later = broadcast(bob, {"n": 2})
            await alice.take([chain.pin(later)])
            await alice.wait_state(later)
    assert storage.reads.count(ref_of(pins[1])) == reads


async def test_a_batch_that_is_too_large_is_not_read_to_its_end(
    tmp_path: Path, storage: SharedDictionary, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with member(tmp_path, storage, Org("alice")) as alice:
        limits = alice.downloads._limits
        monkeypatch.setattr(alice.downloads, "_limits", replace(limits, batch_bytes_max=10))
        async with alice.running():
            await alice.take([chain.pin(claim_org(Org("bob")))])
            async with asyncio.timeout(30):
                while not any("FF10377" in str(e) for e in alice.downloads._errors.values()):
                    await asyncio.sleep(0.01)
