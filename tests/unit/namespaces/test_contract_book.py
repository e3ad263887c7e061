"""The contracts of a namespace: the database is the truth, the configuration says which comes next.

Method: the real SQLite store and the ledger in memory.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from photinus_core.host.fakes import FakeBlockchain, FakeWorld
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.model.ledger import NamespaceRow
from photinus_core.namespaces.contracts import ContractBook
from photinus_core.namespaces.settings import ContractSettings
from photinus_core.ports.connectors import ConnectorFailure
from photinus_core.store import SqliteStore

NS = Namespace("alpha")
EMPTY = NamespaceRow(NS, "net", "", Nanoseconds(1))
ONE = ContractSettings('{"address": "0xA1"}', "0")
TWO = ContractSettings('{"address":"0xa2"}', "5000", '{"all":"true"}')


@pytest.fixture
async def ledger() -> AsyncIterator[FakeBlockchain]:
    async with FakeWorld() as world:
        yield world.member("alice").blockchain


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "core.db")
    async with opened.write(NS) as tx:
        await tx.save_namespace_row(EMPTY)
    yield opened
    await opened.aclose()


def ended(row: NamespaceRow) -> NamespaceRow:
    last = msgspec.structs.replace(row.contracts[-1], final_event="000000000009/000000/000000")
    return msgspec.structs.replace(row, contracts=(*row.contracts[:-1], last))


async def test_the_first_start_takes_the_first_contract(
    store: SqliteStore, ledger: FakeBlockchain
) -> None:
    book = ContractBook(store, NS, ledger, [ONE, TWO])
    assert book.all == ()
    with pytest.raises(Rejected, match="FF10396"):
        _ = book.active
    row = await book.open(EMPTY)
    assert (book.active.index, book.active.location, book.active.first_event) == (
        0,
        '{"address":"0xa1"}',
        "0",
    )
    assert [c.location for c in book.configured] == ['{"address":"0xa1"}', '{"address":"0xa2"}']
    assert [book.options(index) for index in range(3)] == ["", '{"all":"true"}', ""]
    async with store.read(NS) as reader:
        assert await reader.namespace_row() == row
    again = ContractBook(store, NS, ledger, [ONE, TWO])
    assert await again.open(row) == row


async def test_an_ended_contract_is_followed_by_the_next(
    store: SqliteStore, ledger: FakeBlockchain
) -> None:
    book = ContractBook(store, NS, ledger, [ONE, TWO])
    over = ended(await book.open(EMPTY))
    book.changed(over)
    with pytest.raises(Rejected, match="FF10396"):
        _ = book.active
    moved = await ContractBook(store, NS, ledger, [ONE, TWO]).open(over)
    assert [c.index for c in moved.contracts] == [0, 1]
    book.changed(moved)
    assert book.active.location == '{"address":"0xa2"}'
    last = ContractBook(store, NS, ledger, [ONE, TWO])
    assert await last.open(ended(moved)) == ended(moved)
    with pytest.raises(Rejected, match="FF10396"):
        _ = last.active


async def test_a_configuration_that_names_another_contract_is_refused(
    store: SqliteStore, ledger: FakeBlockchain
) -> None:
    row = await ContractBook(store, NS, ledger, [ONE]).open(EMPTY)
    with pytest.raises(Rejected, match=r"FF19305.*contract\[0\].*0xa2.*0xa1"):
        await ContractBook(store, NS, ledger, [TWO]).open(row)
    with pytest.raises(Rejected, match="FF10396"):
        await ContractBook(store, NS, ledger, []).open(row)
    with pytest.raises(ConnectorFailure):
        await ContractBook(store, NS, ledger, [ContractSettings("{}")]).open(row)
