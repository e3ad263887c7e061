"""What comes from outside and is wrong: rejected or parked with a cause, and nobody else is held
up.

Goal: the "From outside" list of the issue, one test each, and the squatting cases of hard case 16.
Method: a hostile member (mallory), registered or not, pins and sends what a correct member never
would; at the end of every test an honest broadcast must still be confirmed.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from photinus_core.events import peers as peers_module
from photinus_core.events.wakeups import WakeupKind
from photinus_core.model import canonical
from photinus_core.model.ids import Hash32, new_uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import DataRef, DatatypeRef, MessageType
from photinus_core.model.wire import batch_manifest, encode_batch
from photinus_core.ports.store import Wakeup

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
    Sent,
    blob_data,
    broadcast,
    claim_node,
    claim_org,
    define_datatype,
    forge,
    group_of,
    key_of,
    message,
    private,
    seal,
    unpinned,
    value_data,
)


@pytest.fixture
def mallory() -> Org:
    return Org("mallory")


@pytest.fixture
async def alice(
    tmp_path: Path, storage: SharedDictionary, chain: Chain, bob: Org, mallory: Org
) -> AsyncIterator[Member]:
    """A member of a network with bob and mallory;

    afterwards an honest broadcast must get through.
    """
    async with member(tmp_path, storage, Org("alice")) as made, made.running():
        claims = [c(o) for o in (made.org, bob, mallory) for c in (claim_org, claim_node)]
        await made.take([chain.pin(claim) for claim in claims])
        await made.wait_state(*claims)
        yield made
        honest = broadcast(bob, "honest", topics=["unharmed"])
        await made.take([chain.pin(honest)])
        await made.wait_state(honest)
        assert not made.chain.troubles()


async def rejected(alice: Member, sent: Sent) -> str:
    """The reason why a batch's first message was rejected."""
    await alice.wait_state(sent, state="rejected")
    found = await alice.message(sent.ids[0])
    assert found is not None
    return found.reject_reason


@pytest.mark.parametrize(
    "fields",
    [
        {"batch": "no uuid"},
        {"batch_hash": "0x12"},
        {"transaction": ""},
        {"contexts": ("zz",)},
        {"contexts": ()},
        {"payload_ref": "Q" * 5000},
    ],
)
async def test_a_pin_with_garbage_is_kept_and_ignored(
    alice: Member, chain: Chain, mallory: Org, fields: dict[str, Any]
) -> None:
    event = chain.pin(broadcast(mallory, 1))
    event = replace(event, body=replace(event.body, **fields))
    await alice.take([event])
    await alice.wait_all_decided()
    assert (await alice.log())[-1][0] == "blockchain_event_received"


async def test_a_payload_that_does_not_match_its_pin_is_not_that_batch(
    alice: Member, chain: Chain, storage: SharedDictionary, mallory: Org
) -> None:
    sent, other = broadcast(mallory, "pinned"), broadcast(mallory, "stored")
    event = chain.pin(sent, payload_ref=storage.put(other.payload()))
    await alice.take([event])
    await alice.settle()
    (why,) = alice.aggregator.explain_batch(sent.wire.batch.id)
    assert str(why.wait.reason) == "batch missing"
    async with alice.store.read(NS) as reader:
        assert not await reader.received_batches([])
    while not alice.downloads.error_of(sent.wire.batch.id):
        await alice.settle()
    assert "FF19401" in alice.downloads.error_of(sent.wire.batch.id)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"id":1}', b"\xff\xfe", b"9" * 100_000])
async def test_a_payload_that_is_no_batch_is_refused(
    alice: Member, chain: Chain, storage: SharedDictionary, mallory: Org, content: bytes
) -> None:
    sent = broadcast(mallory, 1)
    await alice.take([chain.pin(sent, payload_ref=storage.put(content))])
    while not alice.downloads.error_of(sent.wire.batch.id):
        await alice.settle()
    assert alice.context.refusals.latest()[-1].source == "download"


async def test_changed_content_under_true_hashes_is_refused(
    alice: Member, chain: Chain, storage: SharedDictionary, mallory: Org
) -> None:
    """Each hash is recomputed: the value's, the references', the header's."""
    sent = broadcast(mallory, {"pay": 1})
    text = sent.payload().decode()
    forgeries = [
        text.replace('"pay":1', '"pay":2'),
        text.replace('"tag":', '"tag":') and text.replace('"topics":["default"]', '"topics":["x"]'),
        text.replace(mallory.did, "did:firefly:org/bob"),
    ]
    for forgery in forgeries:
        assert forgery != text
        again = broadcast(mallory, {"pay": 1})
        ref = storage.put(forgery.encode())
        await alice.take([chain.pin(again, payload_ref=ref)])
        while not alice.downloads.error_of(again.wire.batch.id):
            await alice.settle()
    assert all(r.source == "download" for r in alice.context.refusals.latest())


async def test_contexts_that_are_not_those_of_the_messages_void_the_pin(
    alice: Member, chain: Chain, mallory: Org, bob: Org
) -> None:
    """A lying pin would hold a topic it has no message for; it counts for nothing."""
    lie = broadcast(mallory, 1, topics=["mine"])
    victim = broadcast(bob, 2, topics=["victim"])
    events = [
        chain.pin(lie, contexts=[canonical.broadcast_context("victim")]),
        chain.pin(victim),
    ]
    await alice.take(events)
    await alice.wait_state(victim)
    await alice.wait_all_decided()
    assert await alice.state(lie.ids[0]) in {"", "pending"}


async def test_somebody_elses_batch_pinned_by_a_stranger_counts_for_nothing(
    alice: Member, chain: Chain, storage: SharedDictionary, mallory: Org, bob: Org
) -> None:
    """Mallory pins bob's batch before bob, with a copy whose datatypes he changed (they are not
    hashed)."""
    data = value_data({"n": 1})
    sent = seal([message(bob.did, bob.key, [data])], [data])
    changed = msgspec.structs.replace(data, datatype=DatatypeRef("none", "such"))
    copy = seal_copy(sent, changed)
    await alice.take([chain.pin(sent, signer=mallory.key, payload_ref=storage.put(copy))])
    await alice.settle()
    await alice.take([chain.pin(sent)])
    await alice.wait_state(sent)


def seal_copy(sent: Sent, item: Any) -> bytes:
    return encode_batch(msgspec.structs.replace(sent.wire, data=(item,))).encode()


async def test_of_two_copies_the_one_of_the_lowest_pin_counts_whichever_comes_first(
    alice: Member, chain: Chain, storage: SharedDictionary, mallory: Org
) -> None:
    """Mallory pins one batch twice, with copies that differ in what is not hashed."""
    data = value_data({"n": 1})
    sent = seal([message(mallory.did, mallory.key, [data])], [data])
    changed = msgspec.structs.replace(data, datatype=DatatypeRef("none", "such"))
    first = chain.pin(sent)
    second = chain.pin(sent, payload_ref=storage.put(seal_copy(sent, changed)))
    storage.hidden.add(ref_of(first))
    await alice.take([first, second])
    while len(set(storage.reads)) < 2:
        await alice.settle()
    await alice.settle()
    storage.hidden.clear()
    await alice.wait_state(sent)
    async with alice.store.read(NS) as reader:
        (stored,) = (await reader.data([data.id])).values()
        assert stored.datatype is None
        assert await reader.undispatched_pins(-1, 10) == []


async def test_a_message_of_an_unregistered_author_is_rejected_not_awaited(
    alice: Member, chain: Chain
) -> None:
    sent = broadcast(Org("nobody"), 1)
    await alice.take([chain.pin(sent)])
    assert "not registered" in await rejected(alice, sent)


async def test_a_message_under_another_name_is_rejected(
    alice: Member, chain: Chain, bob: Org, mallory: Org
) -> None:
    data = value_data(1)
    sent = seal([message(bob.did, mallory.key, [data])], [data])
    await alice.take([chain.pin(sent)])
    assert mallory.did in await rejected(alice, sent)


async def test_a_taken_name_cannot_be_claimed_again(
    alice: Member, chain: Chain, bob: Org, mallory: Org
) -> None:
    hijack = Org("bob")
    claim = claim_org(hijack, key_of("fresh key"))
    await alice.take([chain.pin(claim)])
    assert (await rejected(alice, claim)).startswith("FF10407")
    async with alice.store.read(NS) as reader:
        found = await reader.identity_by_did(bob.did)
        assert found is not None
        assert found.base.id == bob.id


async def test_a_taken_key_cannot_claim_a_second_name(
    alice: Member, chain: Chain, bob: Org
) -> None:
    claim = claim_org(Org("second"), bob.key)
    await alice.take([chain.pin(claim)])
    assert (await rejected(alice, claim)).startswith("FF10355")


async def test_an_id_that_is_anothers_is_taken_in_but_displaces_nobody(
    alice: Member, chain: Chain, bob: Org
) -> None:
    """Ids on different topics have no order: the claim stands, under another id here."""
    squatter = Org("squatter", id=bob.id)
    claims = [claim_org(squatter), claim_node(squatter)]
    await alice.take([chain.pin(claim) for claim in claims])
    await alice.wait_state(*claims)
    async with alice.store.read(NS) as reader:
        owner, other = await reader.identity(bob.id), await reader.identity_by_did(squatter.did)
        node = await reader.identity_by_did("did:firefly:node/squatter_node")
    assert owner is not None
    assert other is not None
    assert node is not None
    assert owner.base.did == bob.did
    assert other.base.id != bob.id
    assert node.base.parent == other.base.id


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"namespace": "elsewhere"}, "namespace"),
        ({"topics": [f"t{n}" for n in range(11)]}, "FF00134"),
        ({"topics": ["not a name"]}, "FF00140"),
        ({"topics": []}, "topic"),
        ({"topics": ["a", "a"]}, "FF00133"),
        ({"tag": "-bad-"}, "FF00140"),
        ({"kind": MessageType.PRIVATE}, "group"),
    ],
)
async def test_messages_that_break_the_rules_are_void_for_everyone(
    alice: Member, chain: Chain, bob: Org, mallory: Org, fields: dict[str, Any], cause: str
) -> None:
    data = value_data(1)
    sent = seal([message(mallory.did, mallory.key, [data], **fields)], [data])
    sent = Sent(sent.wire, sent.contexts or (canonical.broadcast_context("x"),))
    after = broadcast(bob, "after")
    await alice.take([chain.pin(sent), chain.pin(after)])
    await alice.wait_state(after)
    await alice.wait_all_decided()
    assert await alice.state(sent.ids[0]) != "confirmed"
    assert cause


async def test_data_that_break_their_datatype_are_rejected(
    alice: Member, chain: Chain, mallory: Org
) -> None:
    defined = define_datatype(mallory, "widget", "1", {"type": "object", "required": ["id"]})
    bad = broadcast(mallory, value_data({"no": 1}, DatatypeRef("widget", "1")))
    unknown = broadcast(mallory, value_data({}, DatatypeRef("widget", "9")))
    good = broadcast(mallory, value_data({"id": 1}, DatatypeRef("widget", "1")))
    await alice.take([chain.pin(s) for s in (defined, bad, unknown, good)])
    await alice.wait_state(defined, good)
    assert (await rejected(alice, bad)).startswith("FF10198")
    assert (await rejected(alice, unknown)).startswith("FF10195")


async def test_a_datatype_defined_later_does_not_count(
    alice: Member, chain: Chain, mallory: Org
) -> None:
    early = broadcast(mallory, value_data({"id": 1}, DatatypeRef("later", "1")))
    defined = define_datatype(mallory, "later", "1", {"type": "object"})
    await alice.take([chain.pin(early), chain.pin(defined)])
    await alice.wait_state(defined)
    assert (await rejected(alice, early)).startswith("FF10195")


@pytest.mark.parametrize(
    "schema",
    ["{", "[]", '{"type":"absent"}', '{"$ref":"http://127.0.0.1:1/x"}'],
)
async def test_a_hostile_schema_is_refused_where_it_is_used(
    alice: Member, chain: Chain, mallory: Org, schema: str
) -> None:
    payload = {
        "id": new_uuid(),
        "validator": "json",
        "name": "evil",
        "version": "1",
        "hash": canonical.hash_text(schema),
        "created": "2024-01-01T00:00:00Z",
    }
    text = f'{json.dumps(payload)[:-1]},"value":{schema}}}'
    item = value_data({}, None)
    try:
        value = canonical.compact(text)
    except ValueError:
        value = '{"broken":true}'
    item = msgspec.structs.replace(item, value=value, hash=canonical.data_hash(value))
    topic = canonical.definition_topic("datatype", "evil")
    sent = seal(
        [
            message(
                mallory.did,
                mallory.key,
                [item],
                [topic],
                MessageType.DEFINITION,
                "ff_define_datatype",
            )
        ],
        [item],
    )
    used = broadcast(mallory, value_data({"x": 1}, DatatypeRef("evil", "1")))
    await alice.take([chain.pin(sent), chain.pin(used)])
    assert await rejected(alice, used)


@pytest.mark.parametrize(("depth", "taken"), [(900, True), (5_000, True), (20_000, False)])
async def test_values_may_be_nested_as_deep_as_firefly_allows(
    alice: Member, chain: Chain, storage: SharedDictionary, mallory: Org, depth: int, taken: bool
) -> None:
    """Beyond, the batch is refused and holds its own topic only."""
    text = "[" * depth + "]" * depth
    item = msgspec.structs.replace(value_data(1), value=text, hash=canonical.hash_text(text))
    sent = broadcast(mallory, item, topics=["deep"])
    await alice.take([chain.pin(sent)])
    if taken:
        await alice.wait_state(sent)
        return
    while not alice.downloads.error_of(sent.wire.batch.id):
        await alice.settle()
    assert "FF19400" in alice.downloads.error_of(sent.wire.batch.id)


async def test_a_definition_with_a_payload_that_is_none_is_rejected(
    alice: Member, chain: Chain, mallory: Org
) -> None:
    topic = canonical.identity_topic("did:firefly:org/x")
    values: list[object] = [{}, {"identity": 1}, {"identity": {"id": "x"}}, [], "text", 5]
    for value in values:
        item = value_data(value)
        sent = seal(
            [
                message(
                    mallory.did,
                    mallory.key,
                    [item],
                    [topic],
                    MessageType.DEFINITION,
                    "ff_identity_claim",
                )
            ],
            [item],
        )
        await alice.take([chain.pin(sent)])
        assert (await rejected(alice, sent)).startswith("FF10400")


async def test_a_private_message_from_a_stranger_is_parked_within_bounds(
    alice: Member, bob: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "PARKED_MESSAGES_MAX", 3)
    stranger = Org("stranger")
    for n in range(5):
        await alice.receive(private(stranger, group_of(alice.org, stranger), n), stranger)
    async with alice.store.read(NS) as reader:
        assert len(await reader.parked_messages("stranger_dx/stranger_node", 10)) == 3
    assert alice.context.refusals.counts() == {"FF19403": 2}
    sent = private(bob, group_of(alice.org, bob), 1, introduce=True)
    assert await alice.receive(sent, bob), "a known peer is not touched by it"


async def test_a_peer_that_sends_too_much_is_refused(alice: Member, mallory: Org) -> None:
    text = "x" * (peers_module.PEER_MESSAGE_BYTES_MAX + 1)
    assert await alice.receive_text(text, "mallory_dx/mallory_node") == {}
    assert alice.context.refusals.counts() == {"FF19400": 1}


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"batch":{}}', "[" * 100_000, "\ud800"])
async def test_a_wrapper_that_is_none_is_refused(alice: Member, text: str) -> None:
    assert await alice.receive_text(text, "mallory_dx/mallory_node") == {}
    assert sum(alice.context.refusals.counts().values()) == 1


async def test_a_batch_of_another_node_or_author_is_refused(
    alice: Member, bob: Org, mallory: Org
) -> None:
    group = group_of(alice.org, bob, mallory)
    as_bobs_node = private(bob, group, 1)
    assert await alice.receive(as_bobs_node, mallory) == {}
    as_bob = forge(private(bob, group, 2), node=mallory.node)
    assert await alice.receive(as_bob, mallory) == {}
    elsewhere = private(mallory, group, 3)
    wire = msgspec.structs.replace(elsewhere.wire, network_namespace="other")
    assert await alice.receive(Sent(wire, elsewhere.contexts, group), mallory) == {}
    assert sum(alice.context.refusals.counts().values()) == 3


async def test_unpinned_messages_of_who_is_no_member_are_refused(
    alice: Member, bob: Org, mallory: Org
) -> None:
    without_mallory = unpinned(mallory, group_of(alice.org, bob), 1)
    assert await alice.receive(without_mallory, mallory) == {}
    without_us = unpinned(mallory, group_of(bob, mallory), 1)
    assert await alice.receive(without_us, mallory) == {}
    unknown_group = unpinned(mallory, group_of(alice.org, mallory), 1)
    renamed = group_of(alice.org, mallory, name="other")
    assert await alice.receive(Sent(unknown_group.wire, (), renamed), mallory) == {}
    assert len(alice.context.refusals.latest()) == 3


async def test_a_received_batch_does_not_take_the_place_of_the_true_one(
    alice: Member, chain: Chain, bob: Org, mallory: Org
) -> None:
    """Mallory knows bob's batch and message ids and sends other content under them first."""
    group = group_of(alice.org, bob, mallory)
    true = private(bob, group, "true", introduce=True)
    data = value_data("false")
    false_message = message(
        mallory.did, mallory.key, [data], kind=MessageType.PRIVATE, group=group.hash, id=true.ids[1]
    )
    false = seal([false_message], [data], group, mallory.node, true.contexts)
    false = forge(false, id=true.wire.batch.id)
    wire = false.wire
    manifest = batch_manifest(
        wire.batch.id, wire.batch.tx, list(wire.messages), [DataRef(data.id, data.hash)]
    )
    false = forge(false, manifest=manifest, hash=canonical.batch_hash(manifest))
    assert await alice.receive(false, mallory), "it is well-formed"
    await alice.take([chain.pin(true)])
    await alice.receive(true, bob)
    await alice.wait_state(true)
    found = await alice.message(true.ids[1])
    assert found is not None
    assert found.header.author == bob.did


async def test_a_blob_with_nonsense_for_ids_is_refused(alice: Member, mallory: Org) -> None:
    item = value_data(1)
    await alice.receive_blob(mallory, item, b"x", data_id="../../etc")
    await alice.receive_blob(mallory, item, b"x", hash="00")
    await alice.receive_blob(mallory, item, b"x", network_namespace="other")
    assert sum(alice.context.refusals.counts().values()) == 3


async def test_a_shared_blob_that_is_not_what_its_data_say_is_not_taken(
    alice: Member, chain: Chain, storage: SharedDictionary, mallory: Org
) -> None:
    item = blob_data(b"promised", public=storage.put(b"delivered"))
    sent = broadcast(mallory, item, topics=["blobs"])
    await alice.take([chain.pin(sent)])
    await alice.wait_reason(sent.ids[0], "blob missing")
    while not alice.context.refusals.latest():
        await alice.settle()
    assert alice.exchange.blobs == {}, "nothing is left behind"
    assert Hash32("") not in alice.exchange.blobs


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ('"created":"2023-11-14T22:13:20Z"', '"created":"9999-01-01T00:00:00Z"'),
        ('"size":9', '"size":99999999999999999999'),
        ('"size":9', '"size":-1'),
        ('"name":""', '"name":"\\u0000"'),
    ],
)
async def test_numbers_and_texts_that_no_database_can_store_are_refused(
    alice: Member, chain: Chain, storage: SharedDictionary, mallory: Org, true: str, false: str
) -> None:
    """Not one of these is covered by a hash: the copy is well-formed but for them."""
    item = blob_data(b"delivered", public="Qm")
    sent = broadcast(mallory, item, topics=["numbers"])
    text = sent.payload().decode()
    assert true in text
    head, _, tail = text.rpartition(true)
    ref = storage.put((head + false + tail).encode())
    await alice.take([chain.pin(sent, payload_ref=ref)])
    while not alice.downloads.error_of(sent.wire.batch.id):
        await alice.settle()
    assert alice.context.refusals.latest()[-1].source == "download"


async def test_a_header_from_the_year_9999_is_refused(
    alice: Member, chain: Chain, mallory: Org
) -> None:
    data = value_data(1)
    made = message(mallory.did, mallory.key, [data], ["far"])
    header = msgspec.structs.replace(made.header, created=253_370_764_800_000_000_000)
    far = msgspec.structs.replace(made, header=header, hash=canonical.message_hash(header))
    sent = seal([far], [data])
    await alice.take([chain.pin(sent)])
    while not alice.downloads.error_of(sent.wire.batch.id):
        await alice.settle()
    assert "out of range" in alice.downloads.error_of(sent.wire.batch.id)


async def test_a_pinned_message_cannot_be_slipped_in_as_an_unpinned_one(
    alice: Member, mallory: Org
) -> None:
    group = group_of(alice.org, mallory)
    data = value_data(1)
    pinned = message(mallory.did, mallory.key, [data], kind=MessageType.PRIVATE, group=group.hash)
    sent = seal([pinned], [data], group, mallory.node, (), TransactionType.UNPINNED)
    assert await alice.receive(sent, mallory) == {}
    assert await alice.state(sent.ids[0]) == ""


async def test_a_network_action_on_no_contract_of_ours_is_kept_and_ignored(
    alice: Member, chain: Chain, mallory: Org
) -> None:
    event = replace(chain.terminate(mallory.key), listener="elsewhere")
    await alice.take([event])
    async with alice.store.read(NS) as reader:
        assert await reader.notes("network_action") == {}
    assert (await alice.log())[-1][0] == "blockchain_event_received"


async def test_starting_over_decides_nothing_twice(alice: Member, chain: Chain, bob: Org) -> None:
    """What an operator's rewind of pins does."""
    sent = broadcast(bob, 1)
    await alice.take([chain.pin(sent)])
    await alice.wait_state(sent)
    log = await alice.log()
    async with alice.store.write(NS) as tx:
        await tx.insert_wakeups([Wakeup(WakeupKind.REMOVED, "")])
    await alice.settle()
    assert await alice.log() == log
