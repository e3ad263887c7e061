"""`explain` names what an undecided message or pin waits for, and where a sent one stands.

Method: messages are brought into each state on a real store; the answer is compared.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from photinus_core.events.explain import Explainer
from photinus_core.model.errors import NotFound
from photinus_core.model.ids import Nanoseconds, new_uuid
from photinus_core.model.ledger import Operation, OperationStatus, OperationType
from photinus_core.model.messages import MessageState
from photinus_core.ports.store import MessageWrite, OperationChange

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
    broadcast,
    claim_node,
    claim_org,
    group_of,
    private,
)


@pytest.fixture
async def alice(tmp_path: Path, storage: SharedDictionary, chain: Chain) -> AsyncIterator[Member]:
    async with member(tmp_path, storage, Org("alice")) as made, made.running():
        yield made


def explainer(made: Member) -> Explainer:
    return Explainer(made.store, NS, made.aggregator, made.downloads)


async def test_a_message_behind_a_lost_batch_and_after_its_decision(
    alice: Member, chain: Chain, storage: SharedDictionary
) -> None:
    bob = Org("bob")
    first, lost, behind = claim_org(bob), broadcast(bob, "lost"), broadcast(bob, "behind")
    events = [chain.pin(s) for s in (first, lost, behind)]
    storage.hidden.add(ref_of(events[1]))
    await alice.take(events)
    await alice.wait_state(first)
    await alice.wait_reason(behind.ids[0], "behind pin")
    found = await explainer(alice).explain_message(behind.ids[0])
    assert (found.state, found.reason, found.batch) == (
        "pending",
        "behind pin",
        behind.wire.batch.id,
    )
    assert found.since is not None
    (pin,) = found.pins
    assert (pin.state, pin.message) == ("waiting", behind.ids[0])
    assert pin.behind is not None
    ahead = await explainer(alice).explain_pin(pin.behind)
    assert (ahead.state, ahead.reason, ahead.message) == ("waiting", "batch missing", None)
    assert f"{ref_of(events[1])} is not there" in ahead.detail
    assert str(lost.wire.batch.id) in ahead.detail
    storage.hidden.clear()
    await alice.wait_state(behind)
    done = await explainer(alice).explain_message(behind.ids[0])
    assert (done.state, done.reason) == ("confirmed", "")
    assert [p.state for p in done.pins] == ["confirmed"]
    assert done.operations == ("sharedstorage_download_batch Succeeded",)


async def test_a_private_message_without_its_pin_and_a_rejected_one(
    alice: Member, chain: Chain
) -> None:
    bob = Org("bob")
    claims = [claim_org(bob), claim_node(bob)]
    await alice.take([chain.pin(claim) for claim in claims])
    await alice.wait_state(*claims)
    sent = private(bob, group_of(Org("alice"), bob), 1, introduce=True)
    await alice.receive(sent, bob)
    found = await explainer(alice).explain_message(sent.ids[0])
    assert (found.state, found.reason) == ("pending", "pin confirmation")
    rejected = broadcast(Org("nobody"), 1)
    await alice.take([chain.pin(rejected)])
    await alice.wait_state(rejected, state="rejected")
    found = await explainer(alice).explain_message(rejected.ids[0])
    assert found.state == "rejected"
    assert "not registered" in found.detail
    stranger = Org("stranger")
    parked = private(stranger, group_of(Org("alice"), stranger), 1)
    await alice.receive(parked, stranger)
    found = await explainer(alice).explain_message(parked.ids[0])
    assert (found.state, found.reason) == ("parked", "parked")
    assert "stranger_dx/stranger_node" in found.detail
    with pytest.raises(NotFound, match="FF10109"):
        await explainer(alice).explain_message(new_uuid())
    with pytest.raises(NotFound, match="FF10109"):
        await explainer(alice).explain_pin(999)


async def test_own_messages_name_the_step_of_sending(alice: Member) -> None:
    sent = broadcast(alice.org, 1)
    message, batch = sent.messages[0], sent.wire.batch
    ready = msgspec.structs.replace(message, state=MessageState.READY)
    async with alice.store.write(NS) as tx:
        await tx.insert_messages([MessageWrite(ready, sent.wire.data)])
    found = await explainer(alice).explain_message(message.header.id)
    assert (found.state, found.reason) == ("ready", "batch assembly")
    steps = (
        (OperationType.SHAREDSTORAGE_UPLOAD_BATCH, "upload"),
        (OperationType.BLOCKCHAIN_PIN_BATCH, "pin submission"),
    )
    async with alice.store.write(NS) as tx:
        unsent = msgspec.structs.replace(batch, dispatched=False)
        await tx.seal_batch(unsent, [(message.header.id, ())], {})
    for kind, reason in steps:
        row = Operation(
            new_uuid(),
            NS,
            batch.tx.id,
            kind,
            OperationStatus.PENDING,
            "p",
            "{}",
            Nanoseconds(1),
            Nanoseconds(1),
            error="down",
        )
        async with alice.store.write(NS) as tx:
            await tx.insert_operations([row])
        found = await explainer(alice).explain_message(message.header.id)
        assert found.reason == reason
        assert found.operations[0] == f"{kind} Pending: down"
        async with alice.store.write(NS) as tx:
            change = OperationChange(row.id, OperationStatus.SUCCEEDED, Nanoseconds(2))
            await tx.change_operations([change])
    async with alice.store.write(NS) as tx:
        await tx.finish_batch(batch.id, MessageState.SENT, Nanoseconds(3))
    found = await explainer(alice).explain_message(message.header.id)
    assert (found.state, found.reason) == ("sent", "pin confirmation")
