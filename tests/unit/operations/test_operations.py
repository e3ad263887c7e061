"""Operations tried again, and how transactions stand, against FireFly's own answers.

Method: the real SQLite store; a recorded FireFly's `/transactions/{id}/status` answers with the
operations, events and batches it was made of.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from photinus_core.model import canonical
from photinus_core.model.errors import Deposed, NotFound, Rejected, Unavailable
from photinus_core.model.ids import Epoch, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import (
    BlockchainEvent,
    Operation,
    OperationStatus,
    OperationType,
    TransactionType,
)
from photinus_core.model.messages import Batch, BatchType
from photinus_core.operations import submission
from photinus_core.operations.service import OperationService, roll_up
from photinus_core.operations.submission import Runner, Submissions
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import ConnectorFailure, Disposition
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, OperationChange
from photinus_core.store import SqliteStore

from tests.support import golden
from tests.support.store_records import (
    NS,
    make_batch,
    make_blockchain_event,
    make_operation,
    make_transaction,
)
from tests.support.waiting import POLL_S

PIN = OperationType.BLOCKCHAIN_PIN_BATCH
NETWORK_ACTION = OperationType.BLOCKCHAIN_NETWORK_ACTION
FENCE = Fence("namespace/test", Epoch(1))
BUSY: set[Uuid] = set()
WAIT_S = 20.0
SUCCEEDED, PENDING, FAILED, INITIALIZED = (
    OperationStatus.SUCCEEDED,
    OperationStatus.PENDING,
    OperationStatus.FAILED,
    OperationStatus.INITIALIZED,
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "core.db")
    await opened.raise_epoch(FENCE.role, FENCE.epoch)
    BUSY.clear()
    yield opened
    await opened.aclose()


async def begin(
    store: SqliteStore, status: OperationStatus = FAILED
) -> tuple[OperationService, Operation]:
    transaction = make_transaction()
    operation = msgspec.structs.replace(
        make_operation(transaction.id, status), error="reverted", output='{"a":1}'
    )
    async with store.write(NS) as tx:
        await tx.insert_transactions([transaction])
        await tx.insert_operations([operation])
    return OperationService(store, NS, SystemClock(), [PIN]), operation


def leading(
    service: OperationService, store: SqliteStore, run: Runner, fence: Fence = FENCE
) -> Submissions:
    """Makes the service the leader's."""
    scope = Scope(store, SystemClock(), NS, NS)
    submissions = Submissions(
        scope, fence, {PIN: run, NETWORK_ACTION: run}, lambda transaction: transaction in BUSY
    )
    service.lead(submissions)
    return submissions


async def all_of(store: SqliteStore, operation: Operation) -> list[Operation]:
    async with store.read(NS) as reader:
        return await reader.operations_of(operation.tx)


async def test_a_retry_is_a_copy_with_a_key_of_its_own(store: SqliteStore) -> None:
    service, old = await begin(store)
    ran: list[Operation] = []

    async def run(operation: Operation) -> OperationChange:
        ran.append(operation)
        assert operation in await all_of(store, old), "it is stored before it is carried out"
        return OperationChange(operation.id, PENDING, Nanoseconds(9), output='{"b":2}')

    leading(service, store, run)
    made = await service.retry(old.id)
    assert made.status is PENDING
    assert (made.output, made.error, made.input) == ('{"b":2}', "", old.input)
    assert made.key != old.key
    assert ran[0].id == made.id
    first, second = await all_of(store, old)
    assert (first.retry, first.status, first.error) == (made.id, FAILED, "reverted")
    assert second == made
    again = await service.retry(old.id)
    chain = {o.id: o.retry for o in await all_of(store, old)}
    assert chain == {old.id: made.id, made.id: again.id, again.id: None}


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Unavailable("FF19202", "x", "nonsense"), FAILED),
        (ConnectorFailure("BAD", "no", Disposition.NOT_SENT), FAILED),
        (ConnectorFailure("LOST", "gone", Disposition.MAYBE_SENT), PENDING),
        (ConnectorFailure("LOST", "gone", Disposition.SENT), PENDING),
    ],
)
async def test_a_retry_that_fails_shows_it(
    store: SqliteStore, failure: Exception, status: OperationStatus
) -> None:
    service, old = await begin(store)

    async def run(_: Operation) -> OperationChange:
        raise failure

    leading(service, store, run)
    with pytest.raises(type(failure)):
        await service.retry(old.id)
    copy = (await all_of(store, old))[1]
    assert (copy.status, copy.error) == (status, str(failure))


AWAY = (
    Unavailable("FF19200", "x", "away"),
    ConnectorFailure("DOWNSTREAM_DOWN", "no node", Disposition.NOT_SENT, retry_after_s=1.0),
)


@pytest.mark.parametrize("failure", AWAY)
async def test_what_cannot_be_sent_for_now_is_sent_when_its_connector_is_back(
    store: SqliteStore, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "RETRY_S", POLL_S)
    service, old = await begin(store)
    ran: list[str] = []
    is_back = asyncio.Event()

    async def run(operation: Operation) -> OperationChange:
        ran.append(operation.key)
        if not is_back.is_set():
            raise failure
        return OperationChange(operation.id, PENDING, Nanoseconds(9), error="")

    submissions = leading(service, store, run)
    copy = await service.retry(old.id)
    assert (copy.status, copy.error) == (INITIALIZED, str(failure))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(submissions.run())
        await until(lambda: len(ran) > 2)
        assert await all_of(store, old) == [await stored(store, old.id), copy], "written once"
        is_back.set()
        async with asyncio.timeout(WAIT_S):
            while (await stored(store, copy.id)).status is not PENDING:
                await asyncio.sleep(POLL_S)
        task.cancel()
    assert set(ran) == {copy.key}
    assert (await stored(store, copy.id)).error == ""


@pytest.mark.parametrize("goes", ["sent", "done"])
async def test_what_went_out_by_itself_is_not_sent_again(
    store: SqliteStore, goes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches try their own operations again; a retry that waited meanwhile has nothing left to do."""
    monkeypatch.setattr(submission, "RETRY_S", POLL_S)
    service, old = await begin(store, INITIALIZED)
    ran: list[str] = []

    async def run(operation: Operation) -> OperationChange:
        ran.append(operation.key)
        raise AWAY[0]

    submissions = leading(service, store, run)
    copy = await service.retry(old.id)
    async with store.write(NS) as tx:
        await tx.change_operations([OperationChange(old.id, PENDING, Nanoseconds(5))])
    ran.clear()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(submissions.run())
        await until(lambda: copy.id in submissions._rest_until_s and not submissions._running)
        assert (await stored(store, copy.id)).status is INITIALIZED
        if goes == "done":
            done = OperationChange(old.id, SUCCEEDED, Nanoseconds(6), output='{"c":3}')
            async with store.write(NS) as tx:
                await tx.change_operations([done])
            async with asyncio.timeout(WAIT_S):
                while (await stored(store, copy.id)).status is not SUCCEEDED:
                    await asyncio.sleep(POLL_S)
            told = await stored(store, copy.id)
            assert (told.output, told.error) == ('{"c":3}', "")
        task.cancel()
    assert ran == []


async def stored(store: SqliteStore, operation: Uuid) -> Operation:
    async with store.read(NS) as reader:
        return (await reader.operations([operation]))[operation]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(POLL_S)


async def test_concurrent_retries_make_one_chain(store: SqliteStore) -> None:
    service, old = await begin(store)

    async def run(operation: Operation) -> OperationChange:
        return OperationChange(operation.id, PENDING, Nanoseconds(9))

    leading(service, store, run)
    await asyncio.gather(*(service.retry(old.id) for _ in range(5)))
    found = await all_of(store, old)
    assert len(found) == 6
    assert len({o.retry for o in found}) == 6


async def test_what_cannot_be_tried_again(store: SqliteStore) -> None:
    _, old = await begin(store)
    service = OperationService(store, NS, SystemClock())
    with pytest.raises(NotFound, match="FF10109"):
        await service.retry(new_uuid())
    with pytest.raises(Rejected, match="FF10414"):
        await service.retry(old.id)
    assert await all_of(store, old) == [old]
    with pytest.raises(NotFound, match="FF10109"):
        await service.transaction_status(new_uuid())
    assert (await service.transaction_status(old.tx)).status is FAILED


# On other replicas, and after a crash


async def test_a_retry_on_a_follower_is_carried_out_by_the_leader(store: SqliteStore) -> None:
    follower, old = await begin(store)
    ran: list[Operation] = []

    async def run(operation: Operation) -> OperationChange:
        ran.append(operation)
        return OperationChange(operation.id, PENDING, Nanoseconds(9), output='{"b":2}')

    submissions = leading(OperationService(store, NS, SystemClock(), [PIN]), store, run)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(submissions.run())
        made = await follower.retry(old.id)
        task.cancel()
    assert (made.status, made.output) == (PENDING, '{"b":2}')
    assert [o.key for o in ran] == [made.key]


async def test_what_a_dead_replica_left_is_taken_up_once_with_its_key(store: SqliteStore) -> None:
    _, old = await begin(store)
    action = msgspec.structs.replace(make_operation(old.tx, INITIALIZED), type=NETWORK_ACTION)
    copy = msgspec.structs.replace(make_operation(old.tx, INITIALIZED), type=PIN)
    busy = msgspec.structs.replace(make_operation(new_uuid(), INITIALIZED), type=NETWORK_ACTION)
    batch_own = msgspec.structs.replace(make_operation(old.tx, INITIALIZED), type=PIN)
    async with store.write(NS) as tx:
        await tx.insert_operations([action, copy, busy, batch_own])
        await tx.set_operation_retry(old.id, copy.id)
    BUSY.add(busy.tx)
    ran: list[str] = []

    async def run(operation: Operation) -> OperationChange:
        ran.append(operation.key)
        if operation.id == action.id:
            raise ConnectorFailure("LOST", "gone", Disposition.MAYBE_SENT)
        return OperationChange(operation.id, PENDING, Nanoseconds(9))

    submissions = leading(OperationService(store, NS, SystemClock(), [PIN]), store, run)

    async def all_taken() -> bool:
        states = {o.id: o.status for o in await all_of(store, old)}
        return states[action.id] is PENDING and states[copy.id] is PENDING

    async with asyncio.TaskGroup() as group:
        task = group.create_task(submissions.run())
        async with asyncio.timeout(10):
            while not await all_taken():
                await asyncio.sleep(POLL_S)
        task.cancel()
    assert sorted(ran) == sorted([action.key, copy.key]), "a batch sends its own operations itself"


async def test_a_deposed_leader_changes_no_operation(store: SqliteStore) -> None:
    service, old = await begin(store)

    async def run(operation: Operation) -> OperationChange:
        await store.raise_epoch(FENCE.role, Epoch(2))
        return OperationChange(operation.id, PENDING, Nanoseconds(9))

    leading(service, store, run)
    with pytest.raises(Deposed):
        await service.retry(old.id)
    assert (await all_of(store, old))[1].status is INITIALIZED, "the next leader takes it up"


# Roll-up


def recorded() -> list[Any]:
    found = []
    for area in ("ledger", "private", "broadcast", "network"):
        for line in golden.lines(area):
            if line.path.endswith("/status") and "/transactions/" in line.path:
                body = json.loads(bytes(line.response_body))
                if line.status == 200 and any(d["type"] == "Batch" for d in body["details"]):
                    found.append(pytest.param(body, id=line.id))
    assert found
    return found


def time_of(detail: dict[str, Any]) -> Nanoseconds:
    return canonical.parse_time(detail["timestamp"])


@pytest.mark.parametrize("body", recorded())
def test_roll_up_is_fireflys(body: dict[str, Any]) -> None:
    transaction = make_transaction(kind=TransactionType.BATCH_PIN)
    operations: list[Operation] = []
    events: list[BlockchainEvent] = []
    batches: list[Batch] = []
    for detail in reversed(body["details"]):
        status = OperationStatus(detail["status"])
        match detail["type"]:
            case "Operation":
                made = msgspec.structs.replace(
                    make_operation(transaction.id, status),
                    id=detail["id"],
                    type=OperationType(detail["subtype"]),
                    updated=time_of(detail),
                    output=json.dumps(detail.get("info")) if "info" in detail else "",
                )
                operations.append(made)
            case "BlockchainEvent" if "id" in detail:
                event = make_blockchain_event("1", tx=transaction.id)
                events.append(
                    msgspec.structs.replace(
                        event, id=detail["id"], name=detail["subtype"], timestamp=time_of(detail)
                    )
                )
            case "Batch" if "id" in detail:
                batches.append(
                    msgspec.structs.replace(
                        make_batch(),
                        id=detail["id"],
                        type=BatchType(detail["subtype"]),
                        confirmed=Nanoseconds(1) if status is SUCCEEDED else None,
                    )
                )
    result = roll_up(transaction, operations, events, batches)
    assert result.status == body["status"]
    assert [(d.type, d.subtype, d.status, d.id) for d in result.details] == [
        (d["type"], d.get("subtype", ""), d["status"], d.get("id")) for d in body["details"]
    ]
    assert [d.timestamp is not None for d in result.details] == [
        "timestamp" in d for d in body["details"]
    ]


@pytest.mark.parametrize(
    ("statuses", "has_event", "confirmed", "expected"),
    [
        ([SUCCEEDED], True, True, SUCCEEDED),
        ([SUCCEEDED, PENDING], True, True, PENDING),
        ([SUCCEEDED, INITIALIZED], True, True, PENDING),
        ([SUCCEEDED], False, True, PENDING),
        ([SUCCEEDED], True, False, PENDING),
        ([SUCCEEDED], True, None, PENDING),
        ([], True, True, SUCCEEDED),
        ([FAILED, PENDING], False, None, FAILED),
    ],
)
def test_one_thing_missing_is_pending_and_one_failure_fails(
    statuses: list[OperationStatus],
    has_event: bool,
    confirmed: bool | None,
    expected: OperationStatus,
) -> None:
    transaction = make_transaction()
    operations = [make_operation(transaction.id, s) for s in statuses]
    events = [make_blockchain_event("1", tx=transaction.id)] if has_event else []
    batch = msgspec.structs.replace(make_batch(), confirmed=Nanoseconds(1) if confirmed else None)
    result = roll_up(transaction, operations, events, [] if confirmed is None else [batch])
    assert result.status is expected


def test_a_failure_that_was_retried_does_not_count() -> None:
    transaction = make_transaction(kind=TransactionType.CONTRACT_INVOKE)
    failed = msgspec.structs.replace(make_operation(transaction.id, FAILED), retry=new_uuid())
    good = make_operation(transaction.id, SUCCEEDED)
    assert roll_up(transaction, [failed, good], [], []).status is SUCCEEDED


@pytest.mark.parametrize("kind", list(TransactionType))
def test_transactions_of_every_type_have_a_status(kind: TransactionType) -> None:
    transaction = make_transaction(kind=kind)
    operation = make_operation(transaction.id, SUCCEEDED)
    missing = {
        "unpinned": ["Batch"],
        "batch_pin": ["Batch", "BlockchainEvent"],
        "contract_invoke_pin": ["Batch", "BlockchainEvent"],
        "token_pool": ["TokenPool"],
        "token_transfer": ["BlockchainEvent", "TokenTransfer"],
        "token_approval": ["BlockchainEvent", "TokenApproval"],
    }.get(kind, [])
    result = roll_up(transaction, [operation], [], [])
    assert sorted(d.type for d in result.details if d.id is None) == missing
    assert result.status is (PENDING if missing else SUCCEEDED)
    failed = roll_up(transaction, [make_operation(transaction.id, FAILED)], [], [])
    assert failed.status is FAILED


def test_a_batch_that_was_given_up_failed_until_the_chain_says_otherwise() -> None:
    transaction = make_transaction()
    operation = make_operation(transaction.id, SUCCEEDED)
    event = make_blockchain_event("1", tx=transaction.id)
    batch = msgspec.structs.replace(make_batch(), confirmed=None, cancelled=True)
    assert roll_up(transaction, [operation], [event], [batch]).status is FAILED
    confirmed = msgspec.structs.replace(batch, confirmed=Nanoseconds(1))
    assert roll_up(transaction, [operation], [event], [confirmed]).status is SUCCEEDED
