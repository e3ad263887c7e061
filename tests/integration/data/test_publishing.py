"""Publications of data end up in shared storage once, whatever fails on the way, and say so.

Method: real databases, the other connectors in memory; a leader and a follower are two services on one
store. Failures are made at every call of the store in turn, by connectors that are told to fail, and by
killing a process while the storage has the bytes and has not answered.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from photinus_core.data.inputs import DataInput
from photinus_core.data.publishing import DataPublisher, DataUploads
from photinus_core.data.service import DataService
from photinus_core.host.fakes import FakeMember, FakeWorld
from photinus_core.model.errors import Conflict, NotFound, PhotinusError, Rejected, Unavailable
from photinus_core.model.ids import Epoch, Uuid, new_uuid
from photinus_core.model.ledger import Operation, OperationStatus, OperationType, TransactionType
from photinus_core.operations import submission
from photinus_core.operations.service import OperationService
from photinus_core.operations.submission import Submissions
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import CallKey, ConnectorFailure, Disposition
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Fence, Store

from tests.support.databases import Databases
from tests.support.store_records import NS
from tests.support.waiting import POLL_S

WAIT_S = 30.0
VALUE = '{"b":1.0,"a":12345678901234567890}'
SUCCEEDED, INITIALIZED, FAILED = (
    OperationStatus.SUCCEEDED,
    OperationStatus.INITIALIZED,
    OperationStatus.FAILED,
)
FENCE = Fence("namespace/test", Epoch(5))


@dataclass(slots=True)
class Storage:
    """Shared storage that fails when it is told to; in front of the one in memory."""

    inner: Any
    failures: list[Exception] = field(default_factory=list)
    """Raised by the next calls, after the bytes were taken."""
    calls: list[CallKey] = field(default_factory=list)

    async def upload(self, call: CallKey, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        self.calls.append(call)
        ref, size = await self.inner.upload(call, chunks)
        if self.failures:
            raise self.failures.pop(0)
        return ref, size

    def download(self, payload_ref: str, max_bytes: int = 0) -> AsyncIterator[bytes]:
        found: AsyncIterator[bytes] = self.inner.download(payload_ref, max_bytes)
        return found


class Replica:
    """The services of one replica."""

    def __init__(self, store: Store, member: FakeMember, storage: Storage) -> None:
        self.store, self.member, self.storage = store, member, storage
        self.scope = Scope(store, SystemClock(), NS, NS)
        self.operations = OperationService(
            store, NS, self.scope.clock, [OperationType.SHAREDSTORAGE_UPLOAD_VALUE]
        )
        self.data = DataService(store, NS, self.scope.clock, member.data_exchange)
        self.publisher = DataPublisher(self.scope, self.data, self.operations, "ipfs")

    def lead(self, fence: Fence = FENCE) -> Submissions:
        """Carries operations out from now on."""
        uploads = DataUploads(self.scope, fence, self.member.data_exchange, self.storage)
        runners = {
            OperationType.SHAREDSTORAGE_UPLOAD_VALUE: uploads.value,
            OperationType.SHAREDSTORAGE_UPLOAD_BLOB: uploads.blob,
        }
        submissions = Submissions(self.scope, fence, runners, lambda _: False)
        self.operations.lead(submissions)
        return submissions

    @asynccontextmanager
    async def leading(self, fence: Fence = FENCE) -> AsyncIterator[None]:
        """Leads, and looks for operations that others left, while the block runs."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.lead(fence).run())
            yield
            task.cancel()
        self.operations.lead(None)

    async def value(self) -> Uuid:
        return (await self.data.store_value(DataInput(value=VALUE))).id

    async def blob(self, content: bytes = b"blob", metadata: str | None = None) -> Uuid:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        return (await self.data.upload(chunks(), metadata=metadata)).id

    async def stored(self) -> list[Operation]:
        """All operations, oldest first."""
        async with self.store.read(NS) as reader:
            return await reader.unfinished_operations(list(OperationType), 100)

    async def of_key(self, key: str) -> tuple[TransactionType, list[Operation]]:
        """Type and operations of the transaction with a key."""
        async with self.store.read(NS) as reader:
            found = await reader.transaction_by_key(key)
            assert found is not None
            return found.type, await reader.operations_of(found.id)

    async def until_public(self, data_id: Uuid) -> str:
        async with asyncio.timeout(WAIT_S):
            while not (found := (await self.data.get(data_id)).public):
                await asyncio.sleep(POLL_S)
        return found


@pytest.fixture
async def replica(databases: Databases, tmp_path: Path) -> AsyncIterator[Replica]:
    store = await databases.open(tmp_path / "core.db")
    await store.raise_epoch(FENCE.role, FENCE.epoch)
    async with FakeWorld() as world:
        member = world.member("alice")
        yield Replica(store, member, Storage(member.shared_storage))
    await store.aclose()


@pytest.fixture
def follower(replica: Replica) -> Replica:
    """A second replica on the same database, that does not lead."""
    return Replica(replica.store, replica.member, replica.storage)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "RETRY_S", POLL_S)
    monkeypatch.setattr(submission, "POLL_S", POLL_S)


async def published(replica: Replica, ref: str) -> bytes:
    return b"".join([chunk async for chunk in replica.storage.download(ref)])


# What a publication is


async def test_a_value_is_published_as_it_is_stored(replica: Replica) -> None:
    replica.lead()
    data_id = await replica.value()
    item = await replica.publisher.publish_value(data_id, "k")
    assert await published(replica, item.public) == VALUE.encode()
    assert item == await replica.data.get(data_id)
    kind, (operation,) = await replica.of_key("k")
    assert kind is TransactionType.DATA_PUBLISH
    assert (operation.type, operation.status) == ("sharedstorage_upload_value", SUCCEEDED)
    assert (operation.plugin, operation.input) == ("ipfs", f'{{"dataId":"{data_id}"}}')
    assert operation.output == f'{{"payloadRef":"{item.public}"}}'
    async with replica.store.read(NS) as reader:
        (event,) = await reader.events_after(0, 10)
    assert (event.type, event.topic) == ("transaction_submitted", "data_publish")
    assert event.reference == event.tx == operation.tx


async def test_a_blob_is_published_beside_its_value(replica: Replica) -> None:
    replica.lead()
    data_id = await replica.blob(b"bytes" * 100_000, '{"name":"/a/b.txt"}')
    item = await replica.publisher.publish_blob(data_id, "k")
    assert item.blob is not None
    assert (item.public, item.blob.path) == ("", "/a")
    assert await published(replica, item.blob.public) == b"bytes" * 100_000
    assert (await replica.of_key("k"))[1][0].type == "sharedstorage_upload_blob"
    item = await replica.publisher.publish_value(data_id)
    assert item.blob is not None
    assert await published(replica, item.public) == b'{"name":"/a/b.txt"}'
    assert item.blob.public, "the other reference stays"


async def test_no_value_is_published_as_null(replica: Replica) -> None:
    replica.lead()
    item = await replica.publisher.publish_value(await replica.blob())
    assert await published(replica, item.public) == b"null"


async def test_a_key_is_taken_once_and_no_key_never(replica: Replica) -> None:
    replica.lead()
    first, second = await replica.value(), await replica.value()
    ref = (await replica.publisher.publish_value(first, "k")).public
    for data_id in (first, second):
        with pytest.raises(Conflict, match="FF10431: Idempotency key 'k'"):
            await replica.publisher.publish_value(data_id, "k")
    with pytest.raises(Conflict, match="FF10431"):
        await replica.publisher.publish_blob(await replica.blob(), "k")
    assert (await replica.data.get(second)).public == ""
    assert (await replica.publisher.publish_value(first)).public == ref
    assert (await replica.publisher.publish_value(first)).public == ref
    assert len(replica.storage.calls) == 3
    assert len({call.key for call in replica.storage.calls}) == 3


async def test_what_cannot_be_published_stores_nothing(replica: Replica) -> None:
    replica.lead()
    publisher, value = replica.publisher, await replica.value()
    away = await replica.blob()
    async with replica.store.write(NS) as tx:
        blob = (await tx.blobs([away]))[away]
        await tx.delete_data(away)
        item = await replica.data.make_value(DataInput(value="1"))
    assert blob.size == 4
    for call, code in (
        (publisher.publish_value(new_uuid()), "FF10109"),
        (publisher.publish_blob(new_uuid()), "FF10109"),
        (publisher.publish_value(item.id), "FF10109"),
        (publisher.publish_blob(value), "FF10241"),
    ):
        with pytest.raises(NotFound, match=code):
            await call
    with pytest.raises(Rejected, match="FF00135"):
        await publisher.publish_value(value, "k" * 257)
    with pytest.raises(Rejected, match="FF19008"):
        await publisher.publish_value(value, "\0")
    assert await replica.stored() == []
    async with replica.store.read(NS) as reader:
        assert await reader.last_event_sequence() == 0


async def test_a_blob_that_has_not_come_yet_is_not_published(replica: Replica) -> None:
    replica.lead()
    data_id = await replica.blob()
    item = await replica.data.get(data_id)
    async with replica.store.write(NS) as tx:
        await tx.delete_data(data_id)
        await tx.insert_data([item])
    with pytest.raises(NotFound, match="FF10239"):
        await replica.publisher.publish_blob(data_id)
    assert await replica.stored() == []


# On other replicas


async def test_the_leader_publishes_for_a_follower(replica: Replica, follower: Replica) -> None:
    data_id = await replica.value()
    async with replica.leading():
        async with asyncio.timeout(WAIT_S):
            item = await follower.publisher.publish_value(data_id, "k")
            with pytest.raises(Conflict, match="FF10431"):
                await follower.publisher.publish_value(data_id, "k")
    assert await published(replica, item.public) == VALUE.encode()
    (call,) = replica.storage.calls
    assert call.epoch == FENCE.epoch, "a storage can refuse a deposed leader"


async def test_a_follower_hears_why_it_failed(replica: Replica, follower: Replica) -> None:
    replica.storage.failures = [ConnectorFailure("NO", "no room", Disposition.NOT_SENT)]
    async with replica.leading():
        with pytest.raises(Unavailable, match=r"FF19019: Operation '.*' failed: no room"):
            async with asyncio.timeout(WAIT_S):
                await follower.publisher.publish_value(await replica.value(), "k")
        (operation,) = (await replica.of_key("k"))[1]
        assert (operation.status, operation.error) == (FAILED, "no room")
        copy = await replica.operations.retry(operation.id)
    assert copy.status is SUCCEEDED


async def test_one_of_two_at_once_takes_the_key(replica: Replica, follower: Replica) -> None:
    first, second = await replica.value(), await replica.value()
    async with replica.leading():
        async with asyncio.timeout(WAIT_S):
            outcomes = await asyncio.gather(
                replica.publisher.publish_value(first, "k"),
                follower.publisher.publish_value(second, "k"),
                return_exceptions=True,
            )
    codes = [o.code for o in outcomes if isinstance(o, PhotinusError)]
    assert codes == ["FF10431"]
    public = [(await replica.data.get(each)).public for each in (first, second)]
    assert sum(map(bool, public)) == 1
    assert len((await replica.of_key("k"))[1]) == 1


async def test_a_deposed_leader_leaves_it_to_the_next(replica: Replica, follower: Replica) -> None:
    data_id = await replica.value()
    replica.lead()
    await replica.store.raise_epoch(FENCE.role, Epoch(6))
    async with follower.leading(Fence(FENCE.role, Epoch(6))), asyncio.timeout(WAIT_S):
        item = await replica.publisher.publish_value(data_id, "k")
    assert await published(replica, item.public) == VALUE.encode()
    _, (operation,) = await replica.of_key("k")
    assert {call.key for call in replica.storage.calls} == {operation.key}


# Failures


@pytest.mark.parametrize("is_follower", [False, True])
async def test_storage_that_is_away_gets_it_later(
    replica: Replica, follower: Replica, is_follower: bool
) -> None:
    asked = follower if is_follower else replica
    data_id = await replica.value()
    replica.member.shared_storage.go_away()
    async with replica.leading():
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"FF19018: .*tried again by itself: FF19200"):
                async with asyncio.timeout(WAIT_S):
                    await asked.publisher.publish_value(data_id, "k")
        _, (operation,) = await replica.of_key("k")
        assert operation.status is INITIALIZED
        replica.member.shared_storage.come_back()
        ref = await replica.until_public(data_id)
        async with asyncio.timeout(WAIT_S):
            while (await replica.of_key("k"))[1][0].status is not SUCCEEDED:
                await asyncio.sleep(POLL_S)
    assert await published(replica, ref) == VALUE.encode()
    assert {call.key for call in replica.storage.calls} == {operation.key}


async def test_a_blob_whose_exchange_is_away_is_published_later(replica: Replica) -> None:
    data_id = await replica.blob(b"bytes")
    replica.member.data_exchange.go_away()
    async with replica.leading(), asyncio.timeout(WAIT_S):
        with pytest.raises(Unavailable, match="FF19018"):
            await replica.publisher.publish_blob(data_id, "k")
        replica.member.data_exchange.come_back()
        while (await replica.of_key("k"))[1][0].status is not SUCCEEDED:
            await asyncio.sleep(POLL_S)
    item = await replica.data.get(data_id)
    assert item.blob is not None
    assert await published(replica, item.blob.public) == b"bytes"


async def test_the_same_key_goes_on_with_what_was_not_sent(replica: Replica) -> None:
    data_id = await replica.value()
    replica.lead()
    replica.member.shared_storage.go_away()
    with pytest.raises(Unavailable, match="FF19018"):
        await replica.publisher.publish_value(data_id, "k")
    with pytest.raises(Conflict, match="FF10431"):
        await replica.publisher.publish_value(await replica.value(), "k")
    replica.member.shared_storage.come_back()
    item = await replica.publisher.publish_value(data_id, "k")
    assert await published(replica, item.public) == VALUE.encode()
    assert len((await replica.of_key("k"))[1]) == 1


async def test_an_answer_that_was_lost_is_asked_for_again(replica: Replica) -> None:
    lost = ConnectorFailure("CONNECTOR_LOST", "gone", Disposition.MAYBE_SENT, retry_after_s=1.0)
    replica.storage.failures = [lost]
    data_id = await replica.value()
    async with replica.leading():
        with pytest.raises(Unavailable, match="FF19018"):
            await replica.publisher.publish_value(data_id, "k")
        await replica.until_public(data_id)
    assert len({call.key for call in replica.storage.calls}) == 1


async def test_data_that_are_deleted_meanwhile_fail_it(replica: Replica) -> None:
    data_id = await replica.value()
    replica.lead()
    replica.member.shared_storage.go_away()
    with pytest.raises(Unavailable, match="FF19018"):
        await replica.publisher.publish_value(data_id, "k")
    await replica.data.delete(data_id)
    replica.member.shared_storage.come_back()
    async with replica.leading(), asyncio.timeout(WAIT_S):
        while (await replica.of_key("k"))[1][0].status is not FAILED:
            await asyncio.sleep(POLL_S)
    assert "FF10143" in (await replica.of_key("k"))[1][0].error


class FaultyStore:
    """A store whose n-th transaction fails, before it commits or right after."""

    def __init__(self, inner: Any, fail_at: int) -> None:
        self._inner = inner
        self.left = fail_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _point(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Unavailable("FF19100")

    @asynccontextmanager
    async def write(self, *scope: Any) -> AsyncIterator[Any]:
        async with self._inner.write(*scope) as tx:
            yield tx
            self._point()
        self._point()


async def test_a_failure_at_any_write_leaves_one_publication_or_none(replica: Replica) -> None:
    points = 0
    for fail_at in range(1, 100):
        data_id, key = await replica.value(), f"k{fail_at}"
        store = FaultyStore(replica.store, fail_at)
        broken = Replica(store, replica.member, replica.storage)
        broken.lead()
        try:
            await broken.publisher.publish_value(data_id, key)
        except Unavailable:
            points += 1
        if store.left > 0:
            break
        async with replica.leading(), asyncio.timeout(WAIT_S):
            try:
                await replica.publisher.publish_value(data_id, key)
            except (Conflict, Unavailable) as other:  # it is done already, or just being done
                assert other.code in {"FF10431", "FF19018"}  # noqa: PT017 - either is right
            ref = await replica.until_public(data_id)
            while (await replica.of_key(key))[1][0].status is not SUCCEEDED:
                await asyncio.sleep(POLL_S)
        _, operations = await replica.of_key(key)
        assert [o.output for o in operations] == [f'{{"payloadRef":"{ref}"}}']
        assert await published(replica, ref) == VALUE.encode()
    assert points == 6, "three transactions: what is to be done, the reference, the end"


async def test_a_killed_leader_is_gone_on_for(
    databases: Databases, replica: Replica, tmp_path: Path
) -> None:
    path = tmp_path / "killed.db"
    store = await databases.open(path)
    data_id = await Replica(store, replica.member, replica.storage).value()
    await store.aclose()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.publishing_child"),
        *(await databases.address(path), data_id, "k"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = (await child.stdout.readline()).decode().split()
    finally:
        child.send_signal(signal.SIGKILL)
        await child.wait()
    assert line[1:] == [str(len(VALUE))], "the storage had the bytes"
    store = await databases.open(path)
    try:
        await store.raise_epoch(FENCE.role, FENCE.epoch)
        successor = Replica(store, replica.member, replica.storage)
        async with successor.leading():
            ref = await successor.until_public(data_id)
            async with asyncio.timeout(WAIT_S):
                while (await successor.of_key("k"))[1][0].status is not SUCCEEDED:
                    await asyncio.sleep(POLL_S)
        assert await published(replica, ref) == VALUE.encode()
        assert [call.key for call in replica.storage.calls] == line[:1]
    finally:
        await store.aclose()
