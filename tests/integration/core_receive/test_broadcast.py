"""Broadcasts arrive and are confirmed; goal: each step of architecture §4 (5 to 7) with its
failures.

Method: a member over a real SQLite store takes chain events; shared storage is a dictionary whose
content can be hidden, so that data comes late.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from photinus_core.model.ledger import OperationStatus, OperationType
from photinus_core.model.messages import DatatypeRef
from photinus_core.model.network import IdentityType, VerifierType

from tests.integration.core_receive.network import (
    Chain,
    Member,
    SharedDictionary,
    member,
    ref_of,
)
from tests.integration.core_receive.senders import (
    NS,
    Org,
    blob_data,
    broadcast,
    claim_node,
    claim_org,
    define_datatype,
    value_data,
)


@pytest.fixture
async def alice(tmp_path: Path, storage: SharedDictionary) -> AsyncIterator[Member]:
    async with member(tmp_path, storage, Org("alice")) as made, made.running():
        yield made


async def test_claims_then_broadcasts_are_confirmed_in_chain_order(
    alice: Member, chain: Chain
) -> None:
    bob = Org("bob")
    claims = [claim_org(bob), claim_node(bob)]
    sent = [broadcast(bob, {"n": n}, {"n": -n}) for n in range(5)]
    await alice.take([chain.pin(s) for s in [*claims, *sent]])
    await alice.wait_state(*claims, *sent)
    assert await alice.order() == [i for s in sent for i in s.ids]
    assert alice.decided == {s.wire.batch.id for s in [*claims, *sent]}, (
        "senders hear of each batch"
    )
    async with alice.store.read(NS) as reader:
        org = await reader.identity_by_did(bob.did)
        assert org is not None
        assert org.base.id == bob.id
        assert org.position == (0, 1, 0, 0, 0)
        node = await reader.identity_by_name(IdentityType.NODE, "bob_node")
        assert node is not None
        assert node.base.parent == bob.id
        verifier = await reader.verifier(VerifierType.ETHEREUM_ADDRESS, bob.key)
        assert verifier is not None
        assert verifier.identity == bob.id
        (batch,) = (await reader.batches([sent[0].wire.batch.id])).values()
        assert batch.confirmed is not None
        assert not await reader.undispatched_pins(-1, 10)
        operations = await reader.operations_of(sent[0].wire.batch.tx.id)
        assert [(o.type, o.status) for o in operations] == [
            (OperationType.SHAREDSTORAGE_DOWNLOAD_BATCH, OperationStatus.SUCCEEDED)
        ]
    kinds = [kind for kind, _, _ in await alice.log()]
    assert kinds.count("identity_confirmed") == 2
    assert kinds.count("blockchain_event_received") == 7
    assert kinds.count("message_confirmed") == 12


async def test_a_download_that_nobody_was_told_of_is_made(alice: Member, chain: Chain) -> None:
    """Found by the simulator: the answer of the commit that stored it was lost."""
    alice.chain._queued = lambda operations: None  # noqa: ARG005  # called with what it drops
    sent = claim_org(Org("bob"))
    await alice.take([chain.pin(sent)])
    await alice.wait_state(sent)


async def test_redelivered_events_change_nothing(alice: Member, chain: Chain) -> None:
    bob = Org("bob")
    sent = [claim_org(bob), broadcast(bob, 1)]
    events = [chain.pin(s) for s in sent]
    await alice.take(events)
    await alice.wait_state(*sent)
    log = await alice.log()
    await alice.take(events)
    await alice.settle()
    assert await alice.log() == log


async def test_a_late_batch_holds_its_topic_and_no_other(
    alice: Member, chain: Chain, storage: SharedDictionary
) -> None:
    bob = Org("bob")
    first, late, after = claim_org(bob), broadcast(bob, "late"), broadcast(bob, "after")
    other = broadcast(bob, "other", topics=["elsewhere"])
    events = [chain.pin(s) for s in (first, late, after, other)]
    ref = ref_of(events[1])
    storage.hidden.add(ref)
    await alice.take(events)
    await alice.wait_state(first, other)
    assert await alice.state(after.ids[0]) == ""
    (why,) = alice.aggregator.explain(after.ids[0])
    assert why.wait.behind is not None
    assert why.wait.behind[:4] == (0, 2, 0, 1), "behind the late batch's pin"
    (missing,) = alice.aggregator.explain_batch(late.wire.batch.id)
    assert str(missing.wait.reason) == "batch missing"
    storage.hidden.clear()
    await alice.wait_state(late, after)
    assert await alice.order() == [late.ids[0], after.ids[0]]


async def test_a_batch_that_never_comes_does_not_hold_its_author_elsewhere(
    alice: Member, chain: Chain, storage: SharedDictionary
) -> None:
    """The author's claim is slow, a batch of theirs is lost:

    their other topics go on all the same.
    """
    bob = Org("bob")
    first, lost = claim_org(bob), broadcast(bob, "lost")
    other = broadcast(bob, "other", topics=["elsewhere"])
    events = [chain.pin(s) for s in (first, lost, other)]
    slow = ref_of(events[0])
    storage.hidden.update({slow, ref_of(events[1])})
    await alice.take(events)
    async with asyncio.timeout(30):
        while not alice.aggregator.explain(other.ids[0]):
            await asyncio.sleep(0.01)
    storage.hidden.discard(slow)
    await alice.wait_state(first)
    await alice.wait_state(other, limit_s=3)


async def test_a_version_that_never_comes_does_not_hold_those_who_use_an_earlier_one(
    alice: Member, chain: Chain, storage: SharedDictionary
) -> None:
    bob = Org("bob")
    first = claim_org(bob)
    slow = define_datatype(bob, "widget", "1", {"type": "object"})
    lost = define_datatype(bob, "widget", "2", {"type": "object"})
    used = broadcast(bob, value_data({}, DatatypeRef("widget", "1")))
    events = [chain.pin(s) for s in (first, slow, lost, used)]
    storage.hidden.update({ref_of(events[1]), ref_of(events[2])})
    await alice.take(events)
    await alice.wait_state(first)
    await alice.wait_reason(used.ids[0], "definition undecided")
    storage.hidden.discard(ref_of(events[1]))
    await alice.wait_state(slow)
    await alice.wait_state(used, limit_s=3)


async def test_a_blob_is_streamed_to_the_data_exchange_before_its_message_counts(
    alice: Member, chain: Chain, storage: SharedDictionary
) -> None:
    bob = Org("bob")
    content = bytes(range(256)) * 4096
    ref = storage.put(content)
    storage.hidden.add(ref)
    item = blob_data(content, public=ref)
    first, sent = claim_org(bob), broadcast(bob, item)
    await alice.take([chain.pin(first), chain.pin(sent)])
    await alice.wait_state(first)
    await alice.wait_reason(sent.ids[0], "blob missing")
    storage.hidden.clear()
    await alice.wait_state(sent)
    async with alice.store.read(NS) as reader:
        blob = (await reader.blobs([item.id]))[item.id]
    assert hashlib.sha256(alice.exchange.blobs[blob.payload_ref]).hexdigest() == blob.hash
    assert alice.exchange.largest_piece == 65_536


async def test_after_a_restart_everything_undecided_is_decided(
    tmp_path: Path, chain: Chain, storage: SharedDictionary
) -> None:
    bob, alice = Org("bob"), Org("alice")
    sent = [claim_org(bob), broadcast(bob, 1), broadcast(bob, 2)]
    events = [chain.pin(s) for s in sent]
    storage.hidden.add(ref_of(events[0]))
    async with member(tmp_path, storage, alice) as before:
        async with before.running():
            await before.take(events)
            await before.settle()
        assert await before.order() == []
    storage.hidden.clear()
    async with member(tmp_path, storage, alice) as after, after.running():
        await after.wait_state(*sent)
        assert await after.order() == [*sent[1].ids, *sent[2].ids]
        assert await after.chain.resume() == {"multiparty/0": b"c"}


async def test_confirmed_nodes_become_peers_also_after_a_restart(
    tmp_path: Path, chain: Chain, storage: SharedDictionary
) -> None:
    alice, bob = Org("alice"), Org("bob")
    sent = [claim_org(alice), claim_node(alice), claim_org(bob), claim_node(bob)]
    async with member(tmp_path, storage, alice) as running, running.running():
        await running.take([chain.pin(s) for s in sent])
        await running.wait_state(*sent)
        async with asyncio.timeout(30):
            while "bob_dx/bob_node" not in running.exchange.peers:
                await asyncio.sleep(0.01)
        assert list(running.exchange.peers) == ["bob_dx/bob_node"], "the own node is no peer"
    async with member(tmp_path, storage, alice) as again, again.running():
        async with asyncio.timeout(30):
            while not again.exchange.peers:
                await asyncio.sleep(0.01)
        assert list(again.exchange.peers) == ["bob_dx/bob_node"]
