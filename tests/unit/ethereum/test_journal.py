"""Goal: the journal remembers what it must, for as long as it must, and tells it in order.

Method: the operations of the kit and the engine on a file, with a clock of the test's own; reopening stands
for a new process.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus_ethereum.hexes import Address, BlockHash, TxHash
from photinus_ethereum.journal import (
    CANCELLED,
    FAILED,
    INTERNAL_SCOPE,
    PENDING,
    SUCCEEDED,
    Journal,
    Outcome,
    Submitted,
)
from photinus_journal import KeyReused, Unusable
from photinus_sdk import StreamKey

STREAM = StreamKey("c1", "ns1", "core")
OTHER = StreamKey("c1", "ns2", "core")
SIGNER = Address("0x" + "11" * 20)
RETENTION_S = 100


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now_ns


@asynccontextmanager
async def opened(tmp_path: Path, clock: Clock | None = None) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "j.sqlite", retention_s=RETENTION_S, now_ns=clock or Clock())
    await journal.open()
    try:
        yield journal
    finally:
        await journal.aclose()


def submitted(nonce: int, key: str | None = None, scope: str = STREAM.text) -> Submitted:
    tx_hash = TxHash("0x" + nonce.to_bytes(32).hex())
    name = key or f"ns1:{nonce}"
    return Submitted(scope, name, "SubmitBatchPin", b"f", SIGNER, nonce, tx_hash, b"raw")


async def accepted(journal: Journal, nonce: int) -> int:
    await journal.begin(STREAM, f"ns1:{nonce}", "SubmitBatchPin", b"f")
    return await journal.insert(submitted(nonce))


def outcome(
    entry_id: int, state: common.OperationState.ValueType | None = SUCCEEDED, block: int = 5
) -> Outcome:
    block_hash = BlockHash("0x" + "bb" * 32)
    return Outcome(entry_id, state, TxHash("0x" + "aa" * 32), block, block_hash, '{"a":1}', "")


async def test_a_known_key_repeats_its_answer_and_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        assert (await journal.begin(STREAM, "ns1:0", "SubmitBatchPin", b"f")).answer is None
        await journal.insert(submitted(0))
        begun = await journal.begin(STREAM, "ns1:0", "SubmitBatchPin", b"f")
        assert begun.answer is not None
        answer = blockchain.SubmitBatchPinResponse.FromString(begun.answer)
        assert answer.submission.external_id == submitted(0).hash
        for method, fingerprint in (("SubmitBatchPin", b"g"), ("InvokeContract", b"f")):
            with pytest.raises(KeyReused) as caught:
                await journal.begin(STREAM, "ns1:0", method, fingerprint)
            assert caught.value.reason == "KEY_REUSED"
        # Another stream's key of the same name is another key.
        assert (await journal.begin(OTHER, "ns1:0", "SubmitBatchPin", b"g")).answer is None


async def test_a_key_that_had_no_effect_is_free_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.begin(STREAM, "ns1:0", "SubmitBatchPin", b"f")
        await journal.release(STREAM, "ns1:0")
        begun = await journal.begin(STREAM, "ns1:0", "SubmitBatchPin", b"other")
        assert begun.answer is None
        assert await journal.get(STREAM, "ns1:0") is None


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        first = journal.store_id
        for nonce in range(3):
            await accepted(journal, nonce)
        await journal.replace(2, replace(submitted(1), hash=TxHash("0x" + "cc" * 32)))
        await journal.finish([outcome(1)])
        await journal.raise_epoch(STREAM, 7)
        await journal.remember("chain_id", "5")
    async with opened(tmp_path) as journal:
        assert journal.store_id == first
        assert journal.meta("chain_id") == "5"
        assert await journal.raise_epoch(STREAM, 6) == 7
        assert journal.highest_nonce(SIGNER) == 2
        entries = journal.unsettled()
        assert [entry.submitted.nonce for entry in entries] == [1, 2]
        assert entries[0].former == ((submitted(1).hash, False),)
        assert entries[0].submitted.hash == "0x" + "cc" * 32
        found = journal.with_nonce(SIGNER, 0)
        assert found is not None
        assert (found.block, found.state) == (5, SUCCEEDED)


async def test_as_much_is_forgotten_as_comes(tmp_path: Path) -> None:
    """However many updates one ack covers."""
    clock, count = Clock(), 200
    async with opened(tmp_path, clock) as journal:

        async def through(first: int) -> None:
            ids = [await accepted(journal, nonce) for nonce in range(first, first + count)]
            await journal.finish([outcome(entry_id) for entry_id in ids])
            updates = await journal.updates(STREAM, 0, count)
            await journal.updates_acked(STREAM, updates[-1].row)

        await through(0)
        clock.now_ns += (RETENTION_S + 1) * 1_000_000_000
        await through(count)
        known, _ = await journal.list_operations(
            STREAM, common.OPERATION_STATE_UNSPECIFIED, 10 * count, 0
        )
        assert len(known) == count


async def test_updates_come_in_order_until_acked_and_are_named_for_ever(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        ids = [await accepted(journal, nonce) for nonce in range(3)]
        changed = journal.changed(STREAM)
        await journal.finish([outcome(ids[1])])
        assert changed.is_set()
        await journal.finish([outcome(ids[0], FAILED)])
        # An end that was told stays as it was told.
        await journal.finish([outcome(ids[0], SUCCEEDED), outcome(ids[2], None)])
        found = await journal.updates(STREAM, 0, 10)
        assert [each.update.idempotency_key for each in found] == ["ns1:1", "ns1:0"]
        assert [each.update.state for each in found] == [SUCCEEDED, FAILED]
        await journal.updates_acked(STREAM, found[0].row)
        assert await journal.updates(STREAM, 0, 10) == found[1:]
        assert await journal.updates(OTHER, 0, 10) == []
        rows = {each.row for each in found}
        await journal.updates_acked(STREAM, found[1].row)
    async with opened(tmp_path) as journal:
        await journal.finish([outcome(await accepted(journal, 3))])
        (later,) = await journal.updates(STREAM, 0, 10)
        assert later.row > max(rows)


async def test_retention_begins_with_the_ack_and_unfinished_keys_stay(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as journal:
        ids = [await accepted(journal, nonce) for nonce in range(3)]
        await journal.finish([outcome(ids[0]), outcome(ids[1])])
        clock.now_ns += 10 * RETENTION_S * 10**9
        first, second = await journal.updates(STREAM, 0, 10)
        await journal.updates_acked(STREAM, first.row)
        assert await journal.get(STREAM, "ns1:0") is not None
        clock.now_ns += 2 * RETENTION_S * 10**9
        await journal.updates_acked(STREAM, first.row)
        assert await journal.get(STREAM, "ns1:0") is None
        assert await journal.get(STREAM, "ns1:1") is not None
        assert await journal.get(STREAM, "ns1:2") is not None
        assert second.update.idempotency_key == "ns1:1"


async def test_a_cancelled_key_stays_taken(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        assert await journal.tombstone(STREAM, "ns1:9") == CANCELLED
        begun = await journal.begin(STREAM, "ns1:9", "SubmitBatchPin", b"f")
        assert begun.operation is not None
        assert begun.operation.state == CANCELLED
        entry_id = await accepted(journal, 0)
        await journal.cancel(entry_id, replace(submitted(0), noop=True))
        assert await journal.tombstone(STREAM, "ns1:0") == CANCELLED
        (told,) = await journal.updates(STREAM, 0, 10)
        assert told.update.state == CANCELLED
        # Its nonce is still to be used up.
        assert [entry.submitted.noop for entry in journal.unsettled()] == [True]
        assert await journal.tombstone(STREAM, "ns1:1") == CANCELLED


async def test_a_reorganisation_opens_a_nonce_and_not_the_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        entry_id = await accepted(journal, 0)
        await journal.finish([outcome(entry_id, block=8)])
        assert [entry.id for entry in journal.mined_from(8)] == [entry_id]
        assert journal.mined_from(9) == []
        await journal.unsettle([entry_id])
        (entry,) = journal.unsettled()
        assert entry.state == SUCCEEDED
        assert entry.block is None


async def test_what_nobody_asked_for_tells_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        entry_id = await journal.insert(submitted(0, "gap/0", INTERNAL_SCOPE))
        await journal.finish([outcome(entry_id)])
        assert await journal.updates(StreamKey("", "", ""), 0, 10) == []
        assert journal.unsettled() == []


async def test_listing_pages_and_filters(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        ids = [await accepted(journal, nonce) for nonce in range(5)]
        await journal.finish([outcome(ids[0])])
        page, after = await journal.list_operations(
            STREAM, common.OPERATION_STATE_UNSPECIFIED, 3, 0
        )
        assert [each.idempotency_key for each in page] == ["ns1:0", "ns1:1", "ns1:2"]
        rest, end = await journal.list_operations(
            STREAM, common.OPERATION_STATE_UNSPECIFIED, 3, after
        )
        assert ([each.idempotency_key for each in rest], end) == (["ns1:3", "ns1:4"], 0)
        pending, _ = await journal.list_operations(STREAM, PENDING, 10, 0)
        assert len(pending) == 4


async def test_insertions_end_in_order_also_when_callers_go(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        ended: list[int] = []
        tasks = []
        for nonce in range(20):
            task = journal.insert(submitted(nonce))
            task.add_done_callback(lambda _, nonce=nonce: ended.append(nonce))  # type: ignore[misc]  # a default binds the loop's value
            tasks.append(task)
        waiting = asyncio.shield(tasks[3])
        waiting.cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
        assert ended == list(range(20))
        assert [entry.submitted.nonce for entry in journal.unsettled()] == list(range(20))


async def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(Unusable) as caught:
            Journal(tmp_path / "j.sqlite", retention_s=1)
        assert caught.value.reason == "STORE_IN_USE"


async def test_a_reader_that_was_woken_finds_every_update(tmp_path: Path) -> None:
    """Once a wake-up came before the commit it was for, and the last update of a burst was never read."""
    count = 300
    async with opened(tmp_path) as journal:
        ids = [await journal.insert(submitted(nonce)) for nonce in range(count)]
        changed, row, read = journal.changed(STREAM), 0, 0

        async def reader() -> None:
            nonlocal row, read
            while read < count:
                changed.clear()
                found = await journal.updates(STREAM, row, 50)
                if not found:
                    await changed.wait()
                    continue
                row, read = found[-1].row, read + len(found)

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(reader())
            for entry_id in ids:
                group.create_task(journal.finish([outcome(entry_id)]))
                await asyncio.sleep(0)
        assert read == count
