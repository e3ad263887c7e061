"""Goal: the journal remembers keys, epochs and updates as the protocol asks, through restarts.

Method: a real SQLite file in a temporary directory; the clock is given; reopening stands for a restart.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus_journal import KeyReused, OperationJournal, SqliteJournal, TooLarge, Unusable
from photinus_sdk import StreamKey

STREAM = StreamKey("cluster", "ns1", "core")
OTHER = StreamKey("cluster", "ns2", "core")
PENDING = common.OPERATION_STATE_PENDING
SUCCEEDED = common.OPERATION_STATE_SUCCEEDED
FAILED = common.OPERATION_STATE_FAILED
CANCELLED = common.OPERATION_STATE_CANCELLED
RETENTION_S = 100


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000_000

    def now_ns(self) -> int:
        return self.seconds * 1_000_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def journal(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteJournal]:
    made = await opened(tmp_path, clock)
    yield made
    await made.aclose()


async def opened(path: Path, clock: Clock) -> SqliteJournal:
    made = SqliteJournal(
        path / "journal.sqlite",
        schema="CREATE TABLE IF NOT EXISTS sent (key TEXT PRIMARY KEY);",
        retention_s=RETENTION_S,
        now_ns=clock.now_ns,
    )
    typed: OperationJournal = made
    await typed.open()
    return made


async def accepted(
    journal: SqliteJournal, key: str, state: common.OperationState.ValueType = PENDING
) -> None:
    await journal.begin(STREAM, key, "SubmitBatchPin", b"f")
    submission = common.Submission(state=state, external_id="0x1")
    await journal.accept(STREAM, key, b"answer", submission)


def update(
    key: str, state: common.OperationState.ValueType, error: str = ""
) -> events.OperationUpdate:
    return events.OperationUpdate(idempotency_key=key, state=state, error=error)


async def test_a_key_is_begun_answered_and_replayed(journal: SqliteJournal) -> None:
    first = await journal.begin(STREAM, "k", "SubmitBatchPin", b"f")
    assert (first.answer, first.retried) == (None, False)
    assert await journal.get(STREAM, "k") is None
    begun = await journal.get(STREAM, "k", begun=True)
    assert begun is not None
    assert (await journal.begin(STREAM, "k", "SubmitBatchPin", b"f")).retried
    await journal.accept(STREAM, "k", b"answer", common.Submission(external_id="0x1"))
    again = await journal.begin(STREAM, "k", "SubmitBatchPin", b"f")
    assert again.answer == b"answer"
    assert again.operation is not None
    assert (again.operation.state, again.operation.external_id) == (PENDING, "0x1")


@pytest.mark.parametrize(("method", "fingerprint"), [("Other", b"f"), ("SubmitBatchPin", b"g")])
async def test_a_key_is_not_used_twice(
    journal: SqliteJournal, method: str, fingerprint: bytes
) -> None:
    await accepted(journal, "k")
    with pytest.raises(KeyReused) as caught:
        await journal.begin(STREAM, "k", method, fingerprint)
    assert caught.value.reason == "KEY_REUSED"
    assert (await journal.begin(OTHER, "k", method, fingerprint)).answer is None


async def test_a_released_key_comes_again_as_new(journal: SqliteJournal) -> None:
    await journal.begin(STREAM, "k", "SubmitBatchPin", b"f")
    await journal.release(STREAM, "k")
    assert not (await journal.begin(STREAM, "k", "Other", b"g")).retried


async def test_an_accepted_key_is_not_released(journal: SqliteJournal) -> None:
    await accepted(journal, "k")
    await journal.release(STREAM, "k")
    assert await journal.get(STREAM, "k") is not None


async def test_updates_stay_until_acked_and_survive_a_restart(tmp_path: Path, clock: Clock) -> None:
    journal = await opened(tmp_path, clock)
    store_id = journal.store_id
    await accepted(journal, "k")
    await journal.update(STREAM, update("k", PENDING))
    await journal.update(STREAM, update("k", FAILED, "x" * 10_000))
    await journal.update(OTHER, update("o", SUCCEEDED))
    await journal.aclose()

    journal = await opened(tmp_path, clock)
    assert journal.store_id == store_id
    first, second = await journal.updates(STREAM, 0, 10)
    assert (first.update.state, second.update.state) == (PENDING, FAILED)
    assert len(second.update.error.encode()) <= 4096
    await journal.updates_acked(STREAM, first.row)
    assert [u.row for u in await journal.updates(STREAM, 0, 10)] == [second.row]
    await journal.updates_acked(STREAM, second.row)
    assert await journal.updates(STREAM, 0, 10) == []
    assert len(await journal.updates(OTHER, 0, 10)) == 1
    await journal.aclose()


async def test_nothing_follows_a_terminal_state(journal: SqliteJournal) -> None:
    await accepted(journal, "k", SUCCEEDED)
    await journal.update(STREAM, update("k", FAILED))
    (only,) = await journal.updates(STREAM, 0, 10)
    assert (only.update.state, only.update.external_id) == (SUCCEEDED, "0x1")


async def test_an_update_before_the_answer_is_not_undone_by_it(journal: SqliteJournal) -> None:
    await journal.begin(STREAM, "k", "SubmitBatchPin", b"f")
    await journal.update(STREAM, update("k", SUCCEEDED))
    await journal.accept(STREAM, "k", b"answer", common.Submission(state=PENDING))
    operation = await journal.get(STREAM, "k")
    assert operation is not None
    assert operation.state == SUCCEEDED


async def test_an_update_too_large_for_any_window_is_refused(journal: SqliteJournal) -> None:
    with pytest.raises(TooLarge):
        await journal.update(
            STREAM,
            events.OperationUpdate(idempotency_key="k", state=SUCCEEDED, manifest="x" * (1 << 20)),
        )
    assert await journal.updates(STREAM, 0, 10) == []


async def test_retention_begins_when_the_end_was_acked(
    journal: SqliteJournal, clock: Clock
) -> None:
    await accepted(journal, "unfinished")
    await accepted(journal, "finished", SUCCEEDED)
    clock.seconds += 10 * RETENTION_S
    await journal.begin(STREAM, "trigger1", "SubmitBatchPin", b"f")
    assert await journal.get(STREAM, "finished") is not None, "its end was not acked yet"
    (last,) = await journal.updates(STREAM, 0, 10)
    await journal.updates_acked(STREAM, last.row)
    clock.seconds += RETENTION_S - 1
    await journal.begin(STREAM, "trigger2", "SubmitBatchPin", b"f")
    assert await journal.get(STREAM, "finished") is not None
    clock.seconds += 2
    await journal.begin(STREAM, "trigger3", "SubmitBatchPin", b"f")
    assert await journal.get(STREAM, "finished") is None
    assert await journal.get(STREAM, "unfinished") is not None


async def test_a_settled_key_is_forgotten_after_its_answer(
    journal: SqliteJournal, clock: Clock
) -> None:
    await journal.begin(STREAM, "k", "AddPeer", b"f")
    await journal.settle(STREAM, "k", b"answer")
    assert (await journal.begin(STREAM, "k", "AddPeer", b"f")).answer == b"answer"
    assert await journal.updates(STREAM, 0, 10) == []
    clock.seconds += RETENTION_S + 1
    assert (await journal.begin(STREAM, "other", "AddPeer", b"f")).answer is None
    assert (await journal.begin(STREAM, "k", "AddPeer", b"f")).answer is None


async def test_a_tombstone_is_for_ever_and_changes_no_end(journal: SqliteJournal) -> None:
    assert await journal.tombstone(STREAM, "unknown") == CANCELLED
    assert await journal.updates(STREAM, 0, 10) == []
    begun = await journal.begin(STREAM, "unknown", "SubmitBatchPin", b"f")
    assert begun.answer == b""
    assert begun.operation is not None
    assert begun.operation.state == CANCELLED

    await accepted(journal, "open")
    assert await journal.tombstone(STREAM, "open") == CANCELLED
    await accepted(journal, "done", SUCCEEDED)
    assert await journal.tombstone(STREAM, "done") == SUCCEEDED
    states = [u.update.state for u in await journal.updates(STREAM, 0, 10)]
    assert states == [CANCELLED, SUCCEEDED]


async def test_epochs_only_rise_and_are_durable(tmp_path: Path, clock: Clock) -> None:
    journal = await opened(tmp_path, clock)
    assert await journal.raise_epoch(STREAM, 5) == 5
    assert await journal.raise_epoch(STREAM, 3) == 5
    assert await journal.raise_epoch(OTHER, 1) == 1
    await journal.aclose()
    journal = await opened(tmp_path, clock)
    assert await journal.raise_epoch(STREAM, 4) == 5
    assert await journal.raise_epoch(STREAM, 6) == 6
    await journal.aclose()


async def test_lists_by_state_in_pages(journal: SqliteJournal) -> None:
    for number in range(5):
        await accepted(journal, f"k{number}", SUCCEEDED if number % 2 else PENDING)
    await journal.begin(STREAM, "begun", "SubmitBatchPin", b"f")
    page, after = await journal.list_operations(STREAM, common.OPERATION_STATE_UNSPECIFIED, 3, 0)
    assert [o.idempotency_key for o in page] == ["k0", "k1", "k2"]
    rest, end = await journal.list_operations(STREAM, common.OPERATION_STATE_UNSPECIFIED, 3, after)
    assert [o.idempotency_key for o in rest] == ["k3", "k4"]
    assert end == 0
    done, _ = await journal.list_operations(STREAM, SUCCEEDED, 10, 0)
    assert [o.idempotency_key for o in done] == ["k1", "k3"]


async def test_an_author_writes_own_rows_and_updates_in_one_transaction(
    journal: SqliteJournal,
) -> None:
    await accepted(journal, "k")

    def both(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO sent VALUES ('k')")
        journal.update_in(db, STREAM, update("k", SUCCEEDED))

    changed = journal.changed(STREAM)
    changed.clear()
    await journal.write(both)
    assert changed.is_set()
    with pytest.raises(sqlite3.IntegrityError):
        await journal.write(both)
    assert len(await journal.updates(STREAM, 0, 10)) == 1


async def test_of_many_writes_at_once_one_failing_fails_alone(journal: SqliteJournal) -> None:
    async def insert(key: str) -> bool:
        try:
            await journal.write(lambda db: db.execute("INSERT INTO sent VALUES (?)", (key,)))
        except sqlite3.IntegrityError:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(insert(key)) for key in ("a", "b", "a", "c")]
    assert [task.result() for task in tasks] == [True, True, False, True]


async def test_waiting_writes_share_a_commit(journal: SqliteJournal) -> None:
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    await journal.write(lambda db: db.set_trace_callback(count))
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(journal.update(STREAM, update(f"k{number}", SUCCEEDED)))
    await journal.write(lambda db: db.set_trace_callback(None))
    assert len(await journal.updates(STREAM, 0, 1000)) == 200
    assert commits < 50


async def test_commits_are_full(journal: SqliteJournal) -> None:
    def pragmas(db: sqlite3.Connection) -> tuple[object, object]:
        return (
            db.execute("PRAGMA synchronous").fetchone()[0],
            db.execute("PRAGMA journal_mode").fetchone()[0],
        )

    assert await journal.write(pragmas) == (2, "wal")


async def test_a_second_process_is_kept_out(
    tmp_path: Path, clock: Clock, journal: SqliteJournal
) -> None:
    with pytest.raises(Unusable, match="in use by another process"):
        await opened(tmp_path, clock)


async def test_a_file_that_is_no_store_is_said_to_be_none_each_time(
    tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"something else" * 100)
    for _ in range(2):
        with pytest.raises(Unusable, match="not a database") as caught:
            await opened(tmp_path, clock)
        assert caught.value.reason == "STORE_UNUSABLE"


async def test_a_lost_database_answers_with_errors_and_not_with_silence(
    journal: SqliteJournal,
) -> None:
    for _ in range(2):
        with pytest.raises(sqlite3.Error):
            await journal.write(lambda db: db.close())
