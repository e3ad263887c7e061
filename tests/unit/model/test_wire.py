"""What travels between members is read back as it was written, and nothing hostile gets through.

Method: Hypothesis makes batches; tables of broken ones, each of which must be refused with FF19400.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photinus_core.model import canonical
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import (
    Batch,
    BatchType,
    BlobRef,
    Data,
    DataRef,
    DatatypeRef,
    Group,
    GroupMember,
    Message,
    MessageHeader,
    MessageState,
    MessageType,
    TransactionRef,
    Validator,
)
from photinus_core.model.wire import (
    WireBatch,
    batch_manifest,
    data_ref,
    decode_batch,
    decode_group,
    decode_wrapper,
    encode_batch,
    encode_group,
    encode_wrapper,
)

NS = Namespace("local")
ID = "0187f3f0-0000-7000-8000-000000000001"
HASH = "ab" * 32

uuids = st.uuids().map(lambda u: Uuid(str(u)))
hashes = st.binary(min_size=32, max_size=32).map(lambda b: Hash32(b.hex()))
times = st.integers(1, 2**62).map(Nanoseconds)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
).map(lambda v: canonical.compact(json.dumps(v, ensure_ascii=False)))
transactions = st.builds(TransactionRef, st.sampled_from(TransactionType), uuids)


@st.composite
def items(draw: st.DrawFn, *, public: bool) -> Data:
    value = draw(values.filter(lambda text: text != "null") | st.none())
    blob = None
    if draw(st.booleans()):
        where = draw(texts) if public else ""
        path = draw(texts) if public else ""
        blob = BlobRef(draw(hashes), draw(st.integers(0, 2**62)), draw(texts), path, where)
    datatype = draw(st.none() | st.builds(DatatypeRef, texts, texts))
    return Data(
        draw(uuids),
        draw(st.sampled_from(Validator)),
        NS,
        draw(hashes),
        draw(times),
        value,
        datatype,
        blob,
    )


@st.composite
def batches(draw: st.DrawFn) -> WireBatch:
    public = draw(st.booleans())
    tx, batch = draw(transactions), draw(uuids)
    data = tuple(draw(st.lists(items(public=public), max_size=2)))
    messages = []
    for _ in range(draw(st.integers(0, 3))):
        header = MessageHeader(
            id=draw(uuids),
            type=draw(st.sampled_from(MessageType)),
            txtype=draw(st.sampled_from(TransactionType)),
            author=draw(texts),
            key=draw(texts),
            created=draw(times),
            namespace=draw(texts),
            topics=tuple(draw(st.lists(texts, min_size=1, max_size=3))),
            datahash=draw(hashes),
            cid=draw(st.none() | uuids),
            group=draw(st.none() | hashes),
            tag=draw(texts),
            txparent=draw(st.none() | transactions),
        )
        messages.append(
            Message(
                header,
                draw(hashes),
                tuple(map(data_ref, data)),
                NS,
                MessageState.PENDING,
                batch=batch,
                txid=tx.id,
            )
        )
    manifest = batch_manifest(batch, tx, messages, [DataRef(d.id, d.hash) for d in data])
    return WireBatch(
        Batch(
            id=batch,
            type=BatchType.BROADCAST if public else BatchType.PRIVATE,
            namespace=NS,
            author=draw(texts),
            key=draw(texts),
            created=draw(times),
            hash=canonical.batch_hash(manifest),
            manifest=manifest,
            tx=tx,
            node=draw(st.none() | uuids),
            group=draw(st.none() | hashes),
        ),
        tuple(messages),
        data,
        draw(texts),
    )


@st.composite
def groups(draw: st.DrawFn) -> Group:
    members = tuple(draw(st.lists(st.builds(GroupMember, names, uuids), min_size=1, max_size=3)))
    network, name = draw(texts), draw(texts)
    return Group(
        NS,
        network,
        name,
        members,
        canonical.group_hash(network, name, [(m.identity, m.node) for m in members]),
        draw(times),
        draw(st.none() | uuids),
    )


@settings(max_examples=60, deadline=None)
@given(batches())
def test_a_batch_is_read_as_it_was_written(wire: WireBatch) -> None:
    text = encode_batch(wire)
    read = decode_batch(text.encode(), NS)
    assert read == wire
    assert encode_batch(read) == text
    assert json.loads(text)["payload"]["tx"]["id"] == wire.batch.tx.id


@settings(max_examples=40, deadline=None)
@given(batches(), st.none() | groups())
def test_a_wrapper_is_read_as_it_was_written(wire: WireBatch, group: Group | None) -> None:
    assert decode_wrapper(encode_wrapper(wire, group), NS) == (wire, group)
    if group is not None:
        assert decode_group(encode_group(group), NS) == group


@pytest.mark.parametrize(
    "value",
    ["1.0", "1e3", "-0", '"\\u003c"', '{"b":1,"a":2}', '{"a":1,"a":2}', "123456789012345678901234"],
)
def test_values_keep_their_bytes(value: str) -> None:
    read = decode_batch(json.dumps(batch()).replace('"VALUE"', value), NS)
    assert read.data[0].value == value
    assert f'"value":{value}' in encode_batch(read)


def test_a_private_batch_does_not_say_where_blobs_were_published() -> None:
    blob = {"hash": HASH, "size": 1, "name": "n", "path": "/p", "public": "Qm"}
    public = decode_batch(json.dumps(batch(**{"payload.data.0.blob": blob})), NS)
    private = decode_batch(
        json.dumps(batch(**{"payload.data.0.blob": blob, "type": "private"})), NS
    )
    assert '"public":"Qm"' in encode_batch(public)
    assert "Qm" not in encode_batch(private)


def test_upper_case_ids_and_prefixed_hashes_are_brought_into_form() -> None:
    read = decode_batch(json.dumps(batch(id=ID.upper(), hash="0x" + HASH.upper())), NS)
    assert (read.batch.id, read.batch.hash) == (ID, HASH)


def test_what_may_be_left_out() -> None:
    least = {"id": ID, "type": "broadcast", "hash": HASH, "payload": {"tx": tx()}}
    read = decode_batch(json.dumps(least), NS)
    assert (read.messages, read.data, read.batch.author, read.batch.created) == ((), (), "", 0)
    given_null = batch(**{"payload.messages.0.data": None, "group": None, "node": None})
    assert decode_batch(json.dumps(given_null), NS).messages[0].data == ()


def tx() -> dict[str, str]:
    return {"type": "batch_pin", "id": ID}


def batch(**changes: object) -> dict[str, Any]:
    """A good batch with some places changed; `...` takes a member away."""
    made: dict[str, Any] = {
        "id": ID,
        "type": "broadcast",
        "namespace": "net",
        "created": "2026-11-21T08:33:38.774140321Z",
        "author": "did:firefly:org/a",
        "key": "0x1",
        "hash": HASH,
        "payload": {
            "tx": tx(),
            "messages": [
                {
                    "header": {
                        "id": ID,
                        "type": "broadcast",
                        "txtype": "batch_pin",
                        "author": "did:firefly:org/a",
                        "created": "2026-11-21T08:33:38.774140321Z",
                        "namespace": "net",
                        "topics": ["t"],
                        "datahash": HASH,
                    },
                    "hash": HASH,
                    "data": [{"id": ID, "hash": HASH}],
                }
            ],
            "data": [{"id": ID, "hash": HASH, "validator": "json", "value": "VALUE"}],
        },
    }
    for path, value in changes.items():
        *way, last = [int(p) if p.isdigit() else p for p in path.split(".")]
        place: Any = made
        for step in way:
            place = place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return made


HEAD = "payload.messages.0.header"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"id": 5},
        {"id": ...},
        {"type": "secret"},
        {"type": ...},
        {"hash": "ab"},
        {"hash": None},
        {"payload": ...},
        {"payload": []},
        {"payload.tx": ...},
        {"payload.tx.type": "x"},
        {"payload.tx.id": ""},
        {"payload.messages": {}},
        {"payload.messages": [5]},
        {"payload.messages.0.header": ...},
        {"payload.messages.0.hash": "zz" * 32},
        {"payload.messages.0.data": [{"id": ID}]},
        {f"{HEAD}.id": ID + "0"},
        {f"{HEAD}.type": "rumour"},
        {f"{HEAD}.txtype": "x"},
        {f"{HEAD}.topics": "t"},
        {f"{HEAD}.topics": [1]},
        {f"{HEAD}.datahash": ...},
        {f"{HEAD}.created": "yesterday"},
        {f"{HEAD}.created": 17},
        {f"{HEAD}.group": "x"},
        {f"{HEAD}.cid": "x"},
        {f"{HEAD}.txparent": {"type": "x", "id": ID}},
        {"payload.data": [None]},
        {"payload.data.0.validator": "xml"},
        {"payload.data.0.blob": {"hash": "x"}},
        {"payload.data.0.blob": {"hash": HASH, "size": "big"}},
        {"payload.data.0.blob": {"hash": HASH, "size": 1.5}},
        {"payload.data.0.datatype": "widget"},
        {"author": 5},
        {"created": "2026-99-99T00:00:00Z"},
        {"node": "x"},
    ],
    ids=str,
)
def test_a_batch_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    text = json.dumps(batch(**changes))
    with pytest.raises(Rejected, match="FF19400"):
        decode_batch(text, NS)
    with pytest.raises(Rejected, match="FF19400"):
        decode_wrapper(f'{{"batch":{text}}}', NS)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'"text"',
        json.dumps(batch()).replace('"VALUE"', "[" * 100_000).encode(),
        json.dumps(batch()).replace('"VALUE"', "[" * 50_000 + "]" * 50_000).encode(),
        json.dumps(batch()).replace('"VALUE"', "{" * 100_000).encode(),
        json.dumps(batch()).replace('"VALUE"', "nul").encode(),
        json.dumps(batch()).replace("did:firefly", "\\ud800").encode(),
        json.dumps(batch()).encode().replace(b"did:firefly", b"\xff\xfe"),
        b'{"x":' + b"[" * 100_000,
        json.dumps(batch()).encode() + b"x",
    ],
    ids=lambda p: repr(p[:20]),
)
def test_bytes_that_are_no_batch_are_refused(payload: bytes) -> None:
    for wrapped, decode in (
        (payload, decode_batch),
        (b'{"batch":' + payload + b"}", decode_wrapper),
        (b'{"members":[],"x":' + payload + b"x}", decode_group),
    ):
        with pytest.raises(Rejected, match="FF19400"):
            decode(wrapped, NS)


@pytest.mark.parametrize(
    "group",
    [
        "{}",
        '{"members":null}',
        '{"members":[{"identity":"a"}]}',
        '{"members":[{"identity":"a","node":"x"}]}',
        '{"members":[],"created":"x"}',
        '{"members":[],"message":"x"}',
        '{"members":[],"name":5}',
    ],
)
def test_what_is_no_group_is_refused(group: str) -> None:
    with pytest.raises(Rejected, match="FF19400"):
        decode_group(group, NS)
    with pytest.raises(Rejected, match="FF19400"):
        decode_wrapper(f'{{"group":{group},"batch":{json.dumps(batch())}}}', NS)


def test_a_groups_hash_is_computed_never_believed() -> None:
    text = json.dumps(
        {"namespace": "net", "name": "", "members": [{"identity": "a", "node": ID}], "hash": HASH}
    )
    assert decode_group(text, NS).hash == canonical.group_hash("net", "", [("a", Uuid(ID))])
