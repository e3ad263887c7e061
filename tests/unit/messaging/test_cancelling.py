"""Batches that are given up: nothing of them reaches the chain any more, and what follows goes on.

Method: the real SQLite store with connectors in memory (`office`); one batch's pin is refused by the
ledger's connector for as long as the test says so.
"""

import asyncio
from typing import Any

import pytest
from photinus_core.model.errors import PhotinusError, Rejected, Unavailable
from photinus_core.model.ids import Nanoseconds, Uuid
from photinus_core.model.ledger import Operation, OperationStatus, OperationType
from photinus_core.model.messages import Batch, Message, MessageState, MessageType, Pin, SystemTag
from photinus_core.model.query import Query
from photinus_core.model.wire import decode_wrapper
from photinus_core.operations.service import OperationService
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import ConnectorFailure, Disposition, PeerMessage, Submission
from photinus_core.ports.store import Table

from tests.support.store_records import new_hash
from tests.support.waiting import until
from tests.unit.messaging.office import (
    NS,
    Crash,
    Office,
    Place,
    Steps,
    running,
    text,
    to,
)


class Refusing:
    """Has the connector refuse the pins of messages with a tag, before or behind their sending."""

    def __init__(self, office: Office, tag: str = "stuck", *, sent: bool = False) -> None:
        self._submit = office.dispatcher.submit_pin
        self._tag = tag
        self._sent = sent
        self.refuses = True
        self.refused = 0
        office.dispatcher.submit_pin = self.submit  # type: ignore[method-assign]  # the test stands between

    async def submit(self, operation: Operation, sealed: Any, payload_ref: str) -> Submission:
        if not self.refuses or all(m.header.tag != self._tag for m in sealed.wire.messages):
            return await self._submit(operation, sealed, payload_ref)
        if self._sent:
            await self._submit(operation, sealed, payload_ref)
        self.refused += 1
        raise ConnectorFailure("REVERTED", "no funds", Disposition.NOT_SENT)


async def batch_of(place: Place, message: Uuid) -> Batch:
    async with place.store.read(NS) as reader:
        batch = (await reader.messages([message]))[message].batch
        assert batch is not None
        return (await reader.batches([batch]))[batch]


async def fills(place: Place, cid: Uuid) -> list[Message]:
    async with place.store.read(NS) as reader:
        return [m for m in await everything(reader) if m.header.cid == cid]


async def everything(reader: Any) -> list[Message]:
    found: list[Message] = (await reader.query(Table.MESSAGES, Query(Table.MESSAGES))).items
    return found


def pinned_contexts(place: Place) -> list[str]:
    return [context for pinned in place.pins() for context in pinned.contexts]


async def stuck(place: Place, office: Office, refusing: Refusing, sent: Message) -> Batch:
    await until(lambda: refusing.refused > 0)
    batch = await batch_of(place, sent.header.id)
    await until(lambda: any(s.blocked for s in office.manager.status()))
    return batch


async def test_a_gap_fill_takes_the_nonces_of_a_private_batch(place: Place) -> None:
    office = await place.office()
    refusing = Refusing(office)
    first = await office.sender.private(to("bob"))
    async with running(office):
        await place.wait_state(first.header.id)
        sent = await office.sender.private(to("bob", tag="stuck", topics=("default", "x")))
        batch = await stuck(place, office, refusing, sent)
        later = await office.sender.private(to("bob", value="later"))
        await office.manager.cancel(batch.id)
        await place.wait_state(later.header.id)
        await place.wait_state(sent.header.id, state=MessageState.CANCELLED)
        (fill,) = await fills(place, sent.header.id)
        await place.wait_state(fill.header.id)
        stats = {s.name: s for s in office.manager.status()}
    gone = await place.message(sent.header.id)
    assert (fill.header.tag, fill.header.type) == (SystemTag.GAP_FILL, MessageType.PRIVATE)
    assert fill.header.topics == ("default", "x")
    assert (fill.pins, fill.data) == (gone.pins, ())
    used = [pin.partition(":")[0] for pin in gone.pins]
    assert [pinned_contexts(place).count(hash_) for hash_ in used] == [1, 1]
    assert not any(s.blocked for s in stats.values())
    assert (await batch_of(place, sent.header.id)).cancelled
    operations = await place.operations(batch)
    statuses = {o.type: (o.status, o.error) for o in operations}
    failed = (OperationStatus.FAILED, "the batch was cancelled")
    assert statuses[OperationType.BLOCKCHAIN_PIN_BATCH] == failed
    assert [b.id for b in await place.batches()].count(batch.id) == 0, "nobody waits for its pin"


async def test_receivers_read_a_gap_fill_as_a_message_of_its_group(place: Place) -> None:
    office = await place.office()
    refusing = Refusing(office)
    first = await office.sender.private(to("bob"))
    async with running(office):
        await place.wait_state(first.header.id)
        sent = await office.sender.private(to("bob", tag="stuck"))
        batch = await stuck(place, office, refusing, sent)
        await office.manager.cancel(batch.id)
        (fill,) = await fills(place, sent.header.id)
        await place.wait_state(fill.header.id)
    bob = place.world.network.members["bob_dx"]
    found = {
        m.header.id: m
        for delivery in bob._inbox  # type: ignore[attr-defined]  # the fake's own
        if isinstance(delivery.body, PeerMessage)
        for m in decode_wrapper(delivery.body.message, NS)[0].messages
    }
    told = found[fill.header.id]
    assert (told.header.cid, told.header.group) == (sent.header.id, sent.header.group)


async def test_a_group_is_introduced_again(place: Place) -> None:
    office = await place.office()
    refusing = Refusing(office)
    sent = await office.sender.private(to("bob", tag="stuck"))
    async with running(office):
        batch = await stuck(place, office, refusing, sent)
        await office.manager.cancel(batch.id)
        await place.wait_state(sent.header.id, state=MessageState.CANCELLED)
        (fill,) = await fills(place, sent.header.id)
        await place.wait_state(fill.header.id)
    async with place.store.read(NS) as reader:
        kinds = [
            (m.header.type, m.state, m.pins, m.data)
            for m in await everything(reader)
            if m.header.type is MessageType.GROUP_INIT
        ]
    (again, first) = kinds
    assert [again[1], first[1]] == [MessageState.SENT, MessageState.CANCELLED]
    assert again[2:] == first[2:], "with the same nonces and the same group"


async def test_nothing_stands_for_a_broadcast(place: Place) -> None:
    office = await place.office()
    refusing = Refusing(office)
    sent = await office.sender.broadcast(text(tag="stuck"))
    async with running(office):
        batch = await stuck(place, office, refusing, sent)
        later = await office.sender.broadcast(text("later"))
        await office.manager.cancel(batch.id)
        await place.wait_state(later.header.id)
        await place.wait_state(sent.header.id, state=MessageState.CANCELLED)
    assert await fills(place, sent.header.id) == []
    assert len(place.pins()) == 1


async def test_an_unpinned_message_is_given_up_while_the_data_exchange_is_away(
    place: Place,
) -> None:
    office = await place.office()
    place.own.data_exchange.go_away()
    sent = await office.sender.private(to("bob", txtype="unpinned"))
    async with running(office):
        await until(lambda: any(s.blocked for s in office.manager.status()))
        batch = await batch_of(place, sent.header.id)
        async with asyncio.timeout(10):
            while True:
                try:
                    await office.manager.cancel(batch.id)
                except Rejected as early:  # what fails is the batch before it, so far
                    assert "not failing" in str(early)  # noqa: PT017 - any other is an error
                    await asyncio.sleep(0.01)
                else:
                    break
        await place.wait_state(sent.header.id, state=MessageState.CANCELLED)
    assert await fills(place, sent.header.id) == []


async def test_a_pin_that_was_sent_after_all_is_not_taken_back(place: Place) -> None:
    office = await place.office()
    refusing = Refusing(office, sent=True)
    sent = await office.sender.private(to("bob", tag="stuck"))
    async with running(office):
        batch = await stuck(place, office, refusing, sent)
        with pytest.raises(Rejected, match=r"FF10468.*on the way to the chain"):
            await office.manager.cancel(batch.id)
        refusing.refuses = False
        await place.wait_state(sent.header.id)
    assert len(place.pins()) == 1


async def test_a_pin_that_came_by_another_way_counts(place: Place) -> None:
    """Found by the simulator: the key was marked, the chain had the pin, and sending failed for ever."""
    office = await place.office()
    refusing = Refusing(office)
    sent = await office.sender.private(to("bob", tag="stuck"))
    async with running(office):
        batch = await stuck(place, office, refusing, sent)
        pin = Pin(
            NS,
            new_hash(),
            batch.id,
            batch.hash,
            0,
            batch.key,
            masked=True,
            created=Nanoseconds(1),
            block=1,
            protocol_id="1",
        )
        async with place.store.write(NS) as tx:
            await tx.insert_pins([pin])
        with pytest.raises(Rejected, match=r"FF10468.*on the chain"):
            await office.manager.cancel(batch.id)
        refusing.refuses = False
        await place.wait_state(sent.header.id)
    assert place.pins() == [], "it was not sent once more"


async def test_what_does_not_fail_is_not_cancelled(place: Place) -> None:
    office = await place.office()
    sent = await office.sender.private(to("bob"))
    async with running(office):
        await place.wait_state(sent.header.id)
        batch = await batch_of(place, sent.header.id)
        with pytest.raises(Rejected, match=r"FF10468.*not being sent"):
            await office.manager.cancel(batch.id)


async def test_a_connector_that_is_away_is_asked_another_time(place: Place) -> None:
    office = await place.office()
    refusing = Refusing(office)
    sent = await office.sender.private(to("bob", tag="stuck"))
    async with running(office):
        batch = await stuck(place, office, refusing, sent)
        place.own.blockchain.go_away()
        with pytest.raises(Unavailable):
            await office.manager.cancel(batch.id)
        assert (await place.message(sent.header.id)).state is MessageState.READY
        place.own.blockchain.come_back()
        refusing.refuses = False
        await place.wait_state(sent.header.id)


async def test_a_crash_behind_the_connectors_word_is_made_good(place: Place) -> None:
    """The key is marked, the transaction is lost: the next leader finds out, and cancels."""
    steps = Steps()
    office = await place.office(steps)
    refusing = Refusing(office)
    sent = await office.sender.private(to("bob", tag="stuck"))
    async with running(office):
        batch = await stuck(place, office, refusing, sent)
        withdraw = office.dispatcher.withdraw_pin

        async def then_crash(operation: Operation) -> Any:
            state = await withdraw(operation)
            steps.fail_at = len(steps.calls)
            return state

        office.dispatcher.withdraw_pin = then_crash  # type: ignore[method-assign]  # the test stands between
        with pytest.raises(Crash):
            await office.manager.cancel(batch.id)
    assert (await place.message(sent.header.id)).state is MessageState.READY
    following = await place.office()
    async with running(following):
        await place.wait_state(sent.header.id, state=MessageState.CANCELLED)
        (fill,) = await fills(place, sent.header.id)
        await place.wait_state(fill.header.id)
    gone = await place.message(sent.header.id)
    used = [pin.partition(":")[0] for pin in gone.pins]
    assert [pinned_contexts(place).count(hash_) for hash_ in used] == [1]


async def test_the_gap_fill_can_be_given_up_too(place: Place) -> None:
    office = await place.office()
    refusing = Refusing(office)
    gap = Refusing(office, SystemTag.GAP_FILL)
    first = await office.sender.private(to("bob"))
    async with running(office):
        await place.wait_state(first.header.id)
        sent = await office.sender.private(to("bob", tag="stuck"))
        batch = await stuck(place, office, refusing, sent)
        await office.manager.cancel(batch.id)
        await until(lambda: gap.refused > 0)
        (fill,) = await fills(place, sent.header.id)
        await office.manager.cancel((await stuck(place, office, gap, fill)).id)
        gap.refuses = False
        again = next(f for f in await fills(place, sent.header.id) if f != fill)
        await place.wait_state(again.header.id)
        await place.wait_state(fill.header.id, state=MessageState.CANCELLED)
    assert again.pins == fill.pins


async def test_operations_of_a_cancelled_batch_are_not_repeated(place: Place) -> None:
    office = await place.office()
    refusing = Refusing(office)
    sent = await office.sender.private(to("bob", tag="stuck"))
    async with running(office):
        batch = await stuck(place, office, refusing, sent)
        await office.manager.cancel(batch.id)
    service = OperationService(place.store, NS, SystemClock(), [OperationType.BLOCKCHAIN_PIN_BATCH])
    (pin,) = [
        o for o in await place.operations(batch) if o.type is OperationType.BLOCKCHAIN_PIN_BATCH
    ]
    with pytest.raises(PhotinusError, match="FF19408"):
        await service.retry(pin.id)
