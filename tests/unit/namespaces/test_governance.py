"""Goal: a network action is sent once it is stored, told, and never without a contract to go on with.

Method: the real SQLite store and the ledger in memory.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus_core.host.fakes import FakeMember, FakeWorld
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.model.errors import Rejected
from photinus_core.model.events import EventType
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.model.ledger import NamespaceRow, OperationStatus, TransactionType
from photinus_core.namespaces.contracts import ContractBook
from photinus_core.namespaces.governance import Governance
from photinus_core.namespaces.settings import ContractSettings
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.scope import Scope
from photinus_core.store import SqliteStore

NS = Namespace("alpha")
ROW = NamespaceRow(NS, "net", "", Nanoseconds(1))
ONE = ContractSettings('{"address":"0xa1"}', "0")
TWO = ContractSettings('{"address":"0xa2"}', "0")


@pytest.fixture
async def member() -> AsyncIterator[FakeMember]:
    async with FakeWorld() as world:
        yield world.member("alice")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "core.db")
    async with opened.write(NS) as tx:
        await tx.save_namespace_row(ROW)
    yield opened
    await opened.aclose()


async def governance(
    store: SqliteStore, member: FakeMember, *contracts: ContractSettings
) -> Governance:
    book = ContractBook(store, NS, member.blockchain, list(contracts))
    await book.open(ROW)
    scope = Scope(store, SystemClock(), NS, "net")
    identities = IdentityResolver(store, NS, member.blockchain, org_name="root", org_key=member.key)
    return Governance(scope, member.blockchain, "ethereum", identities, book)


async def test_an_action_is_stored_sent_and_told(store: SqliteStore, member: FakeMember) -> None:
    await (await governance(store, member, ONE, TWO)).submit("terminate")
    async with store.read(NS) as reader:
        (event,) = await reader.events_after(0, 10)
        assert event.tx is not None
        (operation,) = await reader.operations_of(event.tx)
    assert (event.type, event.topic) == (EventType.TRANSACTION_SUBMITTED, "network_action")
    assert event.topic == TransactionType.NETWORK_ACTION
    assert event.reference == event.tx
    assert operation.status is OperationStatus.PENDING


async def test_without_a_next_contract_none_is_ended(
    store: SqliteStore, member: FakeMember
) -> None:
    with pytest.raises(Rejected, match="FF10396") as refused:
        await (await governance(store, member, ONE)).submit("terminate")
    assert refused.value.http_status == 409
    async with store.read(NS) as reader:
        assert await reader.events_after(0, 10) == []
