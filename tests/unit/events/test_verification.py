"""Which payload is a batch, and which batch keeps the rules.

Method: sound batches are built with the product's hashes; one thing at a time is changed under a
recomputed hash (a defect, decided alike by all) or without it (not that batch).
"""

from typing import Any

import msgspec
import pytest
from photinus_core.events.verification import (
    defect_of,
    introduced_groups,
    is_storable_group,
    verify_payload,
)
from photinus_core.model import canonical
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import (
    Batch,
    BatchType,
    Data,
    DataRef,
    Group,
    GroupMember,
    Message,
    MessageHeader,
    MessageState,
    MessageType,
    TransactionRef,
    Validator,
)
from photinus_core.model.wire import WireBatch, batch_manifest, encode_group

NS = Namespace("alpha")


def item(value: str = "1") -> Data:
    return Data(new_uuid(), Validator.JSON, NS, canonical.data_hash(value), Nanoseconds(1), value)


def message(*data: Data, **fields: Any) -> Message:
    header = MessageHeader(
        **{
            "id": new_uuid(),
            "type": MessageType.BROADCAST,
            "txtype": TransactionType.BATCH_PIN,
            "author": "did:firefly:org/a",
            "key": "0xa",
            "created": Nanoseconds(1),
            "namespace": "net",
            "topics": ("t",),
            "datahash": canonical.data_refs_hash([(d.id, d.hash) for d in data]),
            **fields,
        }
    )
    refs = tuple(DataRef(d.id, d.hash) for d in data)
    return Message(header, canonical.message_hash(header), refs, NS, MessageState.PENDING)


def batch(messages: list[Message], data: list[Data]) -> WireBatch:
    tx = TransactionRef(TransactionType.BATCH_PIN, new_uuid())
    batch_id = new_uuid()
    manifest = batch_manifest(batch_id, tx, messages, [DataRef(d.id, d.hash) for d in data])
    made = Batch(
        batch_id,
        BatchType.BROADCAST,
        NS,
        "did:firefly:org/a",
        "0xa",
        Nanoseconds(1),
        canonical.batch_hash(manifest),
        manifest,
        tx,
    )
    return WireBatch(made, tuple(messages), tuple(data), "net")


def defect(messages: list[Message], data: list[Data]) -> str:
    wire = batch(messages, data)
    verify_payload(wire)
    return defect_of(wire.batch, wire.messages, "net")


def test_a_sound_batch_is_sound() -> None:
    one, two = item("1"), item("2")
    assert defect([message(one, two), message(two)], [one, two]) == ""
    assert defect([message()], []) == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"author": "did:firefly:org/b"}, "different authors"),
        ({"key": "0xb"}, "different authors or keys"),
        ({"namespace": "other"}, "namespace is 'other'"),
        ({"topics": ()}, "no topic"),
        ({"topics": ("a", "a")}, "FF00133"),
        ({"topics": tuple(f"t{n}" for n in range(11))}, "FF00134"),
        ({"topics": ("-",)}, "FF00140"),
        ({"tag": "!"}, "FF00140"),
        ({"type": MessageType.PRIVATE}, "does not go with its group"),
        ({"group": Hash32("1" * 64)}, "does not go with its group"),
    ],
)
def test_what_hashed_content_breaks_is_a_defect(fields: dict[str, Any], words: str) -> None:
    one = item()
    assert words in defect([message(one), message(one, **fields)], [one])


def test_structure_that_the_manifest_covers_is_checked() -> None:
    one, two = item("1"), item("2")
    twice = message(one)
    assert "no messages" in defect([], [])
    assert "a message twice" in defect([twice, twice], [one])
    assert "a data item twice" in defect([message(one, one)], [one])
    assert "not those its messages refer to" in defect([message(one)], [one, two])
    assert "not those its messages refer to" in defect([message(one, two)], [one])


def test_what_does_not_recompute_is_not_that_batch() -> None:
    one = item()
    sound = batch([message(one)], [one])
    replace = msgspec.structs.replace
    (sent,) = sound.messages
    header = sent.header
    forgeries = [
        replace(sound, batch=replace(sound.batch, hash=Hash32("0" * 64))),
        replace(sound, messages=(replace(sent, header=replace(header, tag="x")),)),
        replace(sound, messages=(replace(sent, data=()),)),
        replace(sound, data=(replace(one, value="2"),)),
        replace(sound, data=(replace(one, value=None),)),
        replace(sound, data=(replace(one, created=Nanoseconds(1 << 63)),)),
        replace(sound, batch=replace(sound.batch, author="\0")),
    ]
    verify_payload(sound)
    for forgery in forgeries:
        with pytest.raises(Rejected, match="FF19401"):
            verify_payload(forgery)


def test_a_group_is_proven_by_its_hash() -> None:
    members = (GroupMember("did:firefly:org/a", new_uuid()),)
    computed = canonical.group_hash("net", "g", [(m.identity, m.node) for m in members])
    group = Group(NS, "net", "g", members, computed, Nanoseconds(1))

    def found(text: str, group_hash: Hash32 = computed, **fields: Any) -> list[Uuid | None]:
        data = item(text)
        made = message(data, **{"type": MessageType.GROUP_INIT, "group": group_hash, **fields})
        groups = introduced_groups([made], {(data.id, data.hash): data})
        return [g.message for g in groups if g.hash == computed and g.message == made.header.id]

    assert len(found(encode_group(group))) == 1
    assert found(encode_group(group), Hash32("1" * 64)) == []
    assert found("{}") == []
    assert found(encode_group(group), type=MessageType.PRIVATE) == []
    endless = msgspec.structs.replace(group, created=Nanoseconds(250_000_000_000_000_000_000))
    assert found(encode_group(endless)) == []
    without = message(type=MessageType.GROUP_INIT, group=computed)
    assert introduced_groups([without], {}) == []


@pytest.mark.parametrize(
    ("identity", "storable"),
    [
        ("did:firefly:org/a", True),
        ("d" * 1024, True),
        ("d" * 1025, False),
        ("ü" * 513, False),
        ("d\0", False),
    ],
)
def test_a_group_must_fit_into_every_database(identity: str, storable: bool) -> None:
    group = Group(NS, "net", "g", (GroupMember(identity, new_uuid()),), Hash32("h"), Nanoseconds(1))
    assert is_storable_group(group) == storable
