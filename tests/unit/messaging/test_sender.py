"""What callers send: checked whole, sealed with FireFly's hashes, durable, or refused without a trace.

Method: the real SQLite store with connectors in memory (`office`).
"""

import asyncio
import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from photinus_core.data.inputs import DataInput
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.messaging.groups import GroupResolver
from photinus_core.messaging.inputs import GroupInput, MemberInput, MessageInput
from photinus_core.messaging.receipts import ReceiptService, ReceiptState
from photinus_core.messaging.seal import Draft, seal_message
from photinus_core.model import canonical
from photinus_core.model.errors import Conflict, NotFound, PhotinusError, Rejected, Unavailable
from photinus_core.model.ids import Hash32, Nanoseconds, new_uuid
from photinus_core.model.ledger import OperationStatus, OperationType, TransactionType
from photinus_core.model.messages import (
    DataRef,
    MessageState,
    MessageType,
    SystemTag,
    TransactionRef,
    Validator,
)
from photinus_core.model.wire import decode_group
from photinus_core.ports.store import OperationChange

from tests.unit.messaging.office import NETWORK, NS, Office, Place, running, text, to


@pytest.fixture
async def office(place: Place) -> Office:
    return await place.office()


async def stored(place: Place) -> int:
    async with place.store.read(NS) as reader:
        return len(await reader.ready_messages(0, 1_000))


# Sealing


def test_a_message_has_fireflys_hashes() -> None:
    refs = [DataRef(new_uuid(), Hash32("ab" * 32)), DataRef(new_uuid(), Hash32("cd" * 32))]
    parent = TransactionRef(TransactionType.TOKEN_TRANSFER, new_uuid())
    draft = Draft(
        MessageType.PRIVATE,
        TransactionType.BATCH_PIN,
        "did:firefly:org/a",
        "0x1",
        topics=("b", "a"),
        tag="t",
        cid=new_uuid(),
        group=Hash32("ef" * 32),
        txparent=parent,
        idempotency_key="k",
    )
    made = seal_message(draft, refs, NS, NETWORK, Nanoseconds(1_700_000_000_000_000_000))
    assert made.header.datahash == canonical.data_refs_hash([(r.id, r.hash) for r in refs])
    assert made.hash == canonical.hash_text(canonical.message_header_json(made.header))
    assert (made.header.namespace, made.namespace) == (NETWORK, NS)
    assert made.header.topics == ("b", "a")
    assert made.header.txparent == parent
    assert (made.state, made.idempotency_key, made.batch) == (MessageState.READY, "k", None)
    assert "idempotency" not in canonical.message_header_json(made.header)


def test_no_topic_is_the_default_topic_and_ids_are_new() -> None:
    draft = Draft(MessageType.BROADCAST, TransactionType.BATCH_PIN, "a", "k")
    one, two = (seal_message(draft, (), NS, NETWORK, Nanoseconds(1)) for _ in range(2))
    assert one.header.topics == ("default",)
    assert one.header.id != two.header.id
    assert one.header.datahash == canonical.hash_text("[]")


# Broadcast


async def test_a_broadcast_is_stored_with_its_data_before_the_answer(
    place: Place, office: Office
) -> None:
    sent = await office.sender.broadcast(text({"a": 1}, tag="t", topics=("x",)))
    found = await place.message(sent.header.id)
    assert msgspec.structs.replace(found, sequence=-1) == sent
    assert (sent.header.author, sent.header.key) == ("did:firefly:org/alice", place.own.key)
    assert sent.header.type is MessageType.BROADCAST
    assert (await office.data.get(sent.data[0].id)).value == '{"a":1}'


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (text(1, tag="bad tag"), "FF00140"),
        (text(1, topics=("a", "a")), "FF00133"),
        (text(1, topics=tuple(map(str, range(11)))), "FF00134"),
        (text(1, topics=("_",)), "FF00140"),
        (text(1, idempotency_key="k" * 257), "FF00135"),
        (text(1, idempotency_key="\0"), "FF19008"),
        (text(1, txtype="token_transfer"), "FF19002"),
        (text(1, txtype="contract_invoke_pin"), "FF19002"),
        (text(1, txtype="unpinned"), "FF19002"),
        (text(1, group=GroupInput((MemberInput("bob"),))), "FF19406"),
        (text(1, group_hash=Hash32("0" * 64)), "FF19406"),
        (text(1, author="nobody"), "FF10206"),
        (text(1, key="0xunknown"), "FF10206"),
        (MessageInput(data=(DataInput(),)), "FF10205"),
        (MessageInput(data=(DataInput(id=new_uuid()),)), "FF10204"),
        (MessageInput(data=(DataInput(value="{"),)), "FF19001"),
    ],
)
async def test_a_broadcast_that_is_refused_leaves_nothing(
    place: Place, office: Office, message: MessageInput, code: str
) -> None:
    with pytest.raises(PhotinusError, match=code):
        await office.sender.broadcast(message)
    assert await stored(place) == 0


async def test_a_message_larger_than_a_batch(place: Place) -> None:
    office = await place.office(broadcast_bytes_max=4_096, private_bytes_max=4_096)
    fits = "x" * (4_096 - 1_024 - 256 - 2)
    await office.sender.broadcast(text(fits))
    with pytest.raises(Rejected, match=r"FF10327: Message size 4\.00kb is too large.*4\.00kb"):
        await office.sender.broadcast(text(fits + "x"))
    with pytest.raises(Rejected, match="FF10328"):
        await office.sender.private(to("bob", value=fits + "x"))
    assert await stored(place) == 1


async def test_a_blob_does_not_count_towards_the_size(place: Place) -> None:
    office = await place.office(broadcast_bytes_max=2_000)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 10_000

    row = await office.data.upload(chunks())
    await office.sender.broadcast(MessageInput(data=(DataInput(id=row.id),)))


# Idempotency


async def test_an_idempotency_key_is_used_once_and_the_conflict_names_the_message(
    place: Place, office: Office
) -> None:
    sent = await office.sender.broadcast(text(1, idempotency_key="k"))
    for attempt in (
        office.sender.broadcast(text(2, idempotency_key="k")),
        office.sender.private(to("bob", idempotency_key="k")),
    ):
        with pytest.raises(Conflict, match=f"FF10430.*{sent.header.id}"):
            await attempt
    async with place.store.read(NS) as reader:
        ready = await reader.ready_messages(0, 100)
    assert [m.type for m in ready] == ["broadcast", "groupinit"]
    again = await place.office()
    with pytest.raises(Conflict, match=str(sent.header.id)):
        await again.sender.broadcast(text(1, idempotency_key="k"))


async def test_of_concurrent_calls_with_one_key_exactly_one_is_stored(
    place: Place, office: Office
) -> None:
    calls = [office.sender.broadcast(text(n, idempotency_key="k")) for n in range(8)]
    answers = await asyncio.gather(
        *calls, office.sender.broadcast(text("other")), return_exceptions=True
    )
    sent = [a for a in answers[:-1] if not isinstance(a, BaseException)]
    assert len(sent) == 1
    conflicts = [a for a in answers if isinstance(a, Conflict)]
    assert len(conflicts) == 7
    assert all(sent[0].header.id in str(c) for c in conflicts)
    assert await stored(place) == 2


async def test_a_closed_sender_refuses(office: Office) -> None:
    await office.sender.aclose()
    with pytest.raises(Unavailable, match="FF19011"):
        await office.sender.broadcast(text(1))


# Groups


async def test_a_new_group_is_introduced_before_its_first_message(
    place: Place, office: Office
) -> None:
    sent = await office.sender.private(to("bob", name="deal"))
    async with place.store.read(NS) as reader:
        ready = await reader.ready_messages(0, 100)
        found = await reader.messages([m.id for m in ready])
        init = found[ready[0].id]
        (item,) = (await reader.data([init.data[0].id])).values()
        assert sent.header.group is not None
        kept = (await reader.groups([sent.header.group]))[sent.header.group]
    assert [m.type for m in ready] == ["groupinit", "private"]
    assert init.header.tag == SystemTag.DEFINE_GROUP
    assert init.header.topics == (sent.header.group,)
    assert item.validator is Validator.DEFINITION
    group = decode_group(item.value or "", NS)
    assert (group.hash, group.name) == (sent.header.group, "deal")
    assert [m.identity for m in group.members] == [
        "did:firefly:org/alice",
        "did:firefly:org/bob",
    ]
    assert (kept.hash, kept.message) == (group.hash, init.header.id)
    again = await office.sender.private(to("bob", name="deal"))
    by_hash = await office.sender.private(text(3, group_hash=sent.header.group))
    assert again.header.group == by_hash.header.group == sent.header.group
    assert await stored(place) == 4


async def test_the_order_and_repetition_of_members_change_nothing(office: Office) -> None:
    groups = [
        (await office.sender.private(to(*names))).header.group
        for names in (
            ("bob", "carol"),
            ("carol", "bob", "alice"),
            ("did:firefly:org/bob", "carol", "bob"),
        )
    ]
    assert len(set(groups)) == 1
    other = (await office.sender.private(to("bob", "carol", name="n"))).header.group
    assert other not in groups


async def test_members_may_name_their_node(place: Place, office: Office) -> None:
    bob = place.members["bob"]
    groups = set()
    for node in ("", "bob_node", "did:firefly:node/bob_node", bob.node, bob.node.upper()):
        group = GroupInput((MemberInput("bob", node),))
        groups.add((await office.sender.private(text(1, group=group))).header.group)
    assert len(groups) == 1


async def test_concurrent_first_messages_introduce_a_group_once(
    place: Place, office: Office
) -> None:
    other = await place.office()
    sent = await asyncio.gather(
        *(o.sender.private(to("bob", value=n)) for n in range(4) for o in (office, other))
    )
    async with place.store.read(NS) as reader:
        ready = await reader.ready_messages(0, 100)
    assert [m.type for m in ready].count("groupinit") == 1
    assert ready[0].type == "groupinit"
    assert {m.header.group for m in sent} == {ready[0].group}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (text(1), "FF00115"),
        (text(1, group=GroupInput(())), "FF00115"),
        (text(1, group=GroupInput((MemberInput("nobody"),))), "FF10277"),
        (text(1, group=GroupInput((MemberInput("bob", "nowhere"),))), "FF10224"),
        (text(1, group=GroupInput((MemberInput("bob", "carol_node"),))), "FF10422"),
        (text(1, group=GroupInput((MemberInput("bob"),), "bad name")), "FF00140"),
        (text(1, group_hash=Hash32("0" * 64)), "FF10226"),
        (to("bob", txtype="contract_invoke_pin"), "FF19002"),
        (to("bob", author="carol"), "FF19402"),
        (to("bob", author="nobody"), "FF10206"),
        (to("bob", topics=("",)), "FF00140"),
    ],
)
async def test_a_private_message_that_is_refused_leaves_nothing(
    place: Place, office: Office, message: MessageInput, code: str
) -> None:
    place.own.blockchain._keys += (place.members["carol"].key,)
    with pytest.raises(PhotinusError, match=code):
        await office.sender.private(message)
    assert await stored(place) == 0


async def test_a_member_without_a_node_cannot_be_reached(place: Place, office: Office) -> None:
    dave = msgspec.structs.replace(
        place.members["bob"].identities()[0].base,
        id=new_uuid(),
        did="did:firefly:org/dave",
        name="dave",
    )
    async with place.store.write(NS) as tx:
        row = msgspec.structs.replace(place.members["bob"].identities()[0], base=dave)
        await tx.upsert_identity(row)
    with pytest.raises(Rejected, match="FF10233"):
        await office.sender.private(to("dave"))


async def test_a_member_without_an_organisation_of_its_own(place: Place, office: Office) -> None:
    nobody = IdentityResolver(place.store, NS, place.own.blockchain)
    resolver = GroupResolver(office.quiet, nobody, "alice_node")
    with pytest.raises(Rejected, match="FF10414"):
        await resolver.resolve(GroupInput((MemberInput("bob"),)), Nanoseconds(1))


# Definitions


async def test_a_definition_takes_author_and_key_as_they_are(place: Place, office: Office) -> None:
    sent = await office.sender.send_definition(
        "topic", SystemTag.IDENTITY_CLAIM, '{"a":1}', "did:firefly:org/new", "0xnew"
    )
    assert (sent.header.author, sent.header.key) == ("did:firefly:org/new", "0xnew")
    assert (sent.header.type, sent.header.topics) == (MessageType.DEFINITION, ("topic",))
    assert (await office.data.get(sent.data[0].id)).validator is Validator.DEFINITION
    small = await place.office(broadcast_bytes_max=2_000)
    payload = json.dumps("x" * 2_000)
    with pytest.raises(Rejected, match="FF10327"):
        await small.sender.send_definition("t", SystemTag.DEFINE_DATATYPE, payload, "a", "k")


# Receipts


async def test_receipts_follow_the_delivery_to_each_node(place: Place, office: Office) -> None:
    sent = await office.sender.private(to("bob", "carol"))

    async def shown() -> list[tuple[str, ReceiptState]]:
        found = await office.receipts.of(await place.message(sent.header.id))
        return [(r.identity.rpartition("/")[2], r.state) for r in found]

    pending = ReceiptState.PENDING
    assert await shown() == [("bob", pending), ("carol", pending)]
    async with running(office):
        await place.wait_state(sent.header.id)
    assert await shown() == [("bob", ReceiptState.SENT), ("carol", ReceiptState.SENT)]
    (batch,) = await place.batches()
    sends = {
        json.loads(o.input)["node"]: o
        for o in await place.operations(batch)
        if o.type is OperationType.DATAEXCHANGE_SEND_BATCH
    }
    bob, carol = (sends[place.members[n].node] for n in ("bob", "carol"))
    stored_there = '{"receipt":"stored"}'
    async with place.store.write(NS) as tx:
        await tx.change_operations(
            [
                OperationChange(
                    bob.id, OperationStatus.SUCCEEDED, Nanoseconds(5), output=stored_there
                ),
                OperationChange(carol.id, OperationStatus.FAILED, Nanoseconds(6), error="full"),
            ]
        )
    first, second = await office.receipts.of(await place.message(sent.header.id))
    assert (first.state, first.manifest_hash, first.batch) == (
        ReceiptState.DELIVERED,
        batch.hash,
        batch.id,
    )
    assert (second.state, second.error, second.operation) == (
        ReceiptState.FAILED,
        "full",
        carol.id,
    )
    assert second.manifest_hash == ""


async def test_what_has_no_receipts(place: Place, office: Office) -> None:
    broadcast = await office.sender.broadcast(text(1))
    assert await office.receipts.of(broadcast) == []
    private = await office.sender.private(to("bob"))
    # Received, and its batch is not confirmed as a whole: nothing of it was sent by us.
    received = msgspec.structs.replace(private, batch=new_uuid())
    assert await office.receipts.of(received) == []
    unknown = msgspec.structs.replace(
        private, header=msgspec.structs.replace(private.header, group=Hash32("0" * 64))
    )
    assert await office.receipts.of(unknown) == []


async def test_before_our_node_is_known_every_node_is_shown(place: Place, office: Office) -> None:
    private = await office.sender.private(to("bob"))
    early = ReceiptService(place.store, NS, office.identities, "not_yet")
    assert len(await early.of(private)) == 2
    with pytest.raises(NotFound, match="FF10109"):
        await office.sealer.of_transaction(new_uuid())
