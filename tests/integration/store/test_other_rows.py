"""Identities, datatypes, transactions, operations, blockchain events, checkpoints, notes, subscriptions.

Method: the contract of `ports.Store` against a real database, one behaviour per test.
"""

import msgspec
import pytest
from photinus_core.model.errors import Conflict
from photinus_core.model.ids import Nanoseconds, new_uuid
from photinus_core.model.ledger import (
    NamespaceRow,
    NetworkContract,
    OperationStatus,
    OperationType,
)
from photinus_core.model.network import Datatype, IdentityType, VerifierType
from photinus_core.ports.store import Fence, OperationChange, Store

from tests.support.store_records import (
    NS,
    make_blockchain_event,
    make_dead_letter,
    make_identity,
    make_operation,
    make_subscription,
    make_transaction,
    make_verifier,
    new_hash,
)


async def test_identities_are_found_every_way(store: Store) -> None:
    org, node = make_identity("o"), make_identity("n", IdentityType.NODE, position=None, claim=None)
    async with store.write(NS) as tx:
        await tx.upsert_identity(org)
        await tx.upsert_identity(node)
    async with store.read(NS) as reader:
        assert await reader.identity(org.base.id) == org
        assert await reader.identity_by_did(node.base.did) == node
        assert await reader.identity_by_name(IdentityType.NODE, "n") == node
        assert await reader.identity_by_name(IdentityType.ORG, "n") is None
        assert await reader.identity(new_uuid()) is None
        assert await reader.identities() == [org, node]
        assert await reader.identities(IdentityType.NODE) == [node]


async def test_only_the_mutable_part_of_an_identity_is_replaced(store: Store) -> None:
    first = make_identity("o")
    base = msgspec.structs.replace(first.base, name="other")
    change = msgspec.structs.replace(
        first,
        base=base,
        created=Nanoseconds(99),
        updated=Nanoseconds(50),
        profile="{}",
        update=new_uuid(),
    )
    async with store.write(NS) as tx:
        await tx.upsert_identity(first)
        await tx.upsert_identity(change)
    async with store.read(NS) as reader:
        found = await reader.identity(first.base.id)
    assert found == msgspec.structs.replace(change, base=first.base, created=first.created)


async def test_the_lower_position_owns_a_key(store: Store) -> None:
    late, early, later, local = (new_uuid() for _ in range(4))
    async with store.write(NS) as tx:
        await tx.insert_verifiers([make_verifier(late, "0x1", (0, 10, 0, 0, 0))])
        await tx.insert_verifiers([make_verifier(early, "0x1", (0, 9, 99, 0, 0))])
        await tx.insert_verifiers(
            [make_verifier(later, "0x1", (0, 11, 0, 0, 0)), make_verifier(later, "0x2")]
        )
        await tx.insert_verifiers(
            [make_verifier(local, "0x1"), make_verifier(local, "0x2", (0, 1, 0, 0, 0))]
        )
    async with store.read(NS) as reader:
        owner = await reader.verifier(VerifierType.ETHEREUM_ADDRESS, "0x1")
        assert owner is not None
        assert (owner.identity, owner.position) == (early, (0, 9, 99, 0, 0))
        assert await reader.verifier(VerifierType.FABRIC_MSP_ID, "0x1") is None
        assert [v.value for v in (await reader.verifiers_of([later, late]))[later]] == ["0x2"]


async def test_datatypes_keep_their_first_definition(store: Store) -> None:
    first = Datatype(
        new_uuid(), NS, "w", "1", new_hash(), Nanoseconds(1), '{"a":1}', new_uuid(), (1, 2, 3, 4, 5)
    )
    other = Datatype(new_uuid(), NS, "w", "1", new_hash(), Nanoseconds(1), "{}")
    newer = Datatype(new_uuid(), NS, "w", "2", new_hash(), Nanoseconds(1), "{}")
    async with store.write(NS) as tx:
        for datatype in (first, other, newer):
            await tx.insert_datatype(datatype)
    async with store.read(NS) as reader:
        assert await reader.datatype("w", "1") == first
        assert await reader.datatype("w", "3") is None
        assert await reader.datatypes() == [first, newer]


async def test_transactions_collect_blockchain_ids(store: Store) -> None:
    mine, theirs = make_transaction("key"), make_transaction()
    async with store.write(NS) as tx:
        await tx.insert_transactions([mine])
        await tx.insert_transactions([msgspec.structs.replace(mine, idempotency_key="")])
        await tx.add_blockchain_ids(
            {mine.id: "0xAB", theirs.id: "0x1", new_uuid(): "0x2"}, [mine, theirs]
        )
        await tx.add_blockchain_ids({mine.id: "0xab"})
        await tx.add_blockchain_ids({mine.id: "0xa"})
    async with store.read(NS) as reader:
        found = await reader.transactions([mine.id, theirs.id])
        assert found[mine.id].blockchain_ids == ("0xab", "0xa")
        assert found[theirs.id].blockchain_ids == ("0x1",)
        assert await reader.transaction_by_key("key") == found[mine.id]
        assert await reader.transaction_by_key("") is None


async def test_two_transactions_cannot_have_one_idempotency_key(store: Store) -> None:
    async with store.write(NS) as tx:
        await tx.insert_transactions([make_transaction("k")])
    with pytest.raises(Conflict, match="FF19108"):
        async with store.write(NS) as tx:
            await tx.insert_transactions([make_transaction("k")])


async def test_operations_move_until_they_are_final(store: Store) -> None:
    tx_id = new_uuid()
    one, two = make_operation(tx_id), make_operation(tx_id)
    async with store.write(NS) as tx:
        await tx.insert_operations([one, two])
        changes = [
            OperationChange(one.id, OperationStatus.PENDING, Nanoseconds(3), output='{"x":1}'),
            OperationChange(one.id, OperationStatus.FAILED, Nanoseconds(4), error="broken"),
            OperationChange(one.id, OperationStatus.SUCCEEDED, Nanoseconds(5)),
            OperationChange(new_uuid(), OperationStatus.FAILED, Nanoseconds(5)),
        ]
        failed = msgspec.structs.replace(
            one,
            status=OperationStatus.FAILED,
            updated=Nanoseconds(4),
            output='{"x":1}',
            error="broken",
        )
        assert await tx.change_operations(changes) == [failed]
        assert await tx.change_operations(changes) == []
        kinds = [OperationType.BLOCKCHAIN_PIN_BATCH]
        assert await tx.unfinished_operations(kinds, 10) == [two]
        assert await tx.unfinished_operations([OperationType.TOKEN_TRANSFER], 10) == []
        await tx.set_operation_retry(two.id, one.id)
        assert await tx.unfinished_operations(kinds, 10) == []
    async with store.read(NS) as reader:
        assert await reader.operations_of(tx_id) == [
            failed,
            msgspec.structs.replace(two, retry=one.id),
        ]
        assert set(await reader.operations([one.id, new_uuid()])) == {one.id}


async def test_blockchain_events_are_stored_once_per_listener(store: Store) -> None:
    listener, tx_id = new_uuid(), new_uuid()
    pin, own = make_blockchain_event("1/2/3", tx=tx_id), make_blockchain_event("1/2/3", listener)
    async with store.write(NS) as tx:
        assert await tx.insert_blockchain_events([pin, own]) == [pin, own]
        repeated = make_blockchain_event("1/2/3")
        fresh = make_blockchain_event("1/2/4")
        assert await tx.insert_blockchain_events([repeated, fresh]) == [fresh]
        assert await tx.insert_blockchain_events([]) == []
    async with store.read(NS) as reader:
        assert await reader.blockchain_events([own.id, repeated.id]) == {own.id: own}
        assert await reader.blockchain_events_of(tx_id) == [pin]


async def test_checkpoints_and_notes_are_replaced(store: Store) -> None:
    async with store.write(NS) as tx:
        await tx.set_checkpoints("core", {"a": b"\x00\xff", "b": b"1"})
        await tx.set_checkpoints("core", {"a": b""})
        await tx.set_checkpoints("other", {"a": b"2"})
        await tx.set_notes("claim", {"x": "1", "y": "2", "z": "3"})
        await tx.set_notes("claim", {"x": "9"})
        await tx.delete_notes("claim", ["y", "unknown"])
        await tx.delete_notes("claim", [])
    async with store.read(NS) as reader:
        assert await reader.checkpoints("core") == {"a": b"", "b": b"1"}
        assert await reader.checkpoints("nobody") == {}
        assert await reader.notes("claim") == {"x": "9", "z": "3"}
        assert await reader.notes("action") == {}


async def test_the_namespace_row_is_replaced_but_for_its_birth(store: Store) -> None:
    contracts = (
        NetworkContract(0, '{"address":"0x1"}', "0", 2, "1/2/3", (1, 2, 3)),
        NetworkContract(1, "{}", "9"),
    )
    first = NamespaceRow(NS, "network", "d", Nanoseconds(5))
    second = NamespaceRow(NS, "network", "e", Nanoseconds(6), contracts, "reorganised")
    async with store.read(NS) as reader:
        assert await reader.namespace_row() is None
    async with store.write(NS) as tx:
        await tx.save_namespace_row(first)
        assert await tx.namespace_row() == first
        await tx.save_namespace_row(second)
    async with store.read(NS) as reader:
        assert await reader.namespace_row() == msgspec.structs.replace(
            second, created=Nanoseconds(5)
        )


async def test_subscriptions_and_offsets(store: Store) -> None:
    one, two = make_subscription("one"), make_subscription("two")
    async with store.write(NS) as tx:
        await tx.save_subscription(one, 7)
        await tx.save_subscription(two, None)
        assert await tx.offset(one.id) == 7
        assert await tx.offset(two.id) is None
        renamed = msgspec.structs.replace(one, name="uno", read_ahead=9)
        await tx.save_subscription(renamed, None)
        await tx.set_offset(one.id, 8)
        assert await tx.offset(one.id) == 8
    async with store.read(NS) as reader:
        assert await reader.subscriptions() == [renamed, two]
        assert await reader.subscription(two.id) == two
        assert await reader.subscription_by_name("uno") == renamed
        assert await reader.subscription_by_name("one") is None
    async with store.write(NS) as tx:
        assert await tx.delete_subscription(one.id)
        assert not await tx.delete_subscription(one.id)
        assert await tx.offset(one.id) is None
        await tx.set_offset(one.id, 9)
        assert await tx.offset(one.id) is None


async def test_an_offset_under_an_older_epoch_does_not_move(store: Store) -> None:
    one, two = make_subscription("one"), make_subscription("two")
    role = f"subscription/{NS}/{one.id}"
    old = Fence(role, await store.raise_epoch(role, None))
    async with store.write(NS) as tx:
        await tx.save_subscription(one, None)
        await tx.save_subscription(two, None)
        await tx.set_offset(one.id, 3, old)
        assert await tx.offset(one.id) == 3
    new = Fence(role, await store.raise_epoch(role, None))
    async with store.write(NS) as tx:
        await tx.set_offset(one.id, 4, old)
        await tx.set_offset(two.id, 5)
        assert (await tx.offset(one.id), await tx.offset(two.id)) == (3, 5)
        await tx.set_offset(one.id, 6, new)
        assert await tx.offset(one.id) == 6


async def test_dead_letters_are_queued_and_go_with_their_subscription(store: Store) -> None:
    one, two, event = make_subscription("one"), make_subscription("two"), new_uuid()
    first, other = make_dead_letter(one.id, event), make_dead_letter(two.id, event)
    second = make_dead_letter(one.id, new_uuid())
    async with store.write(NS) as tx:
        await tx.save_subscription(one, None)
        await tx.save_dead_letters([first, second, other])
        assert await tx.dead_letter_count(one.id) == 2
        assert await tx.dead_letter(two.id, first.id) is None, "it is another subscription's"
        assert await tx.queued_dead_letters(one.id, 10) == []
        assert await tx.queue_dead_letters(one.id, new_uuid(), Nanoseconds(5)) == 0
        assert await tx.queue_dead_letters(one.id, first.id, Nanoseconds(5)) == 1
        queued = await tx.queued_dead_letters(one.id, 10)
        assert [letter.id for letter in queued] == [first.id]
        again = make_dead_letter(one.id, event)
        await tx.save_dead_letters([msgspec.structs.replace(again, attempts=7)])
        kept = await tx.dead_letter(one.id, first.id)
        assert kept is not None
        assert (kept.attempts, kept.state) == (7, "parked")
        assert await tx.queue_dead_letters(one.id, None, Nanoseconds(6)) == 2
        assert len(await tx.queued_dead_letters(one.id, 1)) == 1
        assert not await tx.delete_dead_letter(two.id, first.id)
        assert await tx.delete_dead_letter(one.id, first.id)
        assert await tx.delete_subscription(one.id)
    async with store.read(NS) as reader:
        assert await reader.dead_letter_count(one.id) == 0
        assert await reader.dead_letter(two.id, other.id) == other


async def test_a_subscriptions_name_is_taken_once(store: Store) -> None:
    async with store.write(NS) as tx:
        await tx.save_subscription(make_subscription("one"), None)
    with pytest.raises(
        Conflict, match="FF10193: A subscription with name 'alpha:one' already exists"
    ):
        async with store.write(NS) as tx:
            await tx.save_subscription(make_subscription("one"), None)
