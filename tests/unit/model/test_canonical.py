"""Goal: hashes equal FireFly's.

Method: the vectors of the reference notes (asserted in FireFly's own unit tests) and every hash
of a recorded FireFly run, both as the bytes that are hashed and as their SHA-256.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from photinus_core.model import canonical
from photinus_core.model.ids import Hash32, Uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import MessageHeader, MessageType, TransactionRef

_GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "vectors.json"
_VECTORS: list[dict[str, Any]] = json.loads(_GOLDEN.read_text())["vectors"]
_GROUP = "3fcc7e07069e441f07c9f6b26f16fcb2dc896222d72888675082fd308440d9ae"
_REFS = [
    ("e3a3b714-7e49-4c73-a4ea-87a50b19961a", _GROUP),
    (
        "cc66b23f-d340-4333-82d5-b63adc1c3c07",
        "1d1462e02d7acee49a8448267c65067e0bec893c9a0c050b9835efa376fec046",
    ),
    (
        "189c8185-2b92-481a-847a-e57595ab3541",
        "284b535da66aa0734af56c708426d756331baec3bce3079e508003bcf4738ee6",
    ),
]


def _vectors(kind: str) -> list[Any]:
    chosen = [v for v in _VECTORS if v["kind"] == kind]
    assert chosen, kind
    return [pytest.param(v, id=f"{n}-{v['ref'][:36]}") for n, v in enumerate(chosen)]


def _header(text: str) -> MessageHeader:
    raw = json.loads(text)
    parent = raw.get("txparent")
    return MessageHeader(
        id=Uuid(raw["id"]),
        type=MessageType(raw["type"]),
        txtype=TransactionType(raw["txtype"]),
        author=raw.get("author", ""),
        key=raw.get("key", ""),
        created=canonical.parse_time(raw["created"]),
        namespace=raw.get("namespace", ""),
        topics=tuple(raw.get("topics", ())),
        datahash=Hash32(raw["datahash"]),
        cid=raw.get("cid"),
        group=raw.get("group"),
        tag=raw.get("tag", ""),
        txparent=TransactionRef(TransactionType(parent["type"]), parent["id"]) if parent else None,
    )


def test_data_references_of_the_notes() -> None:
    assert (
        canonical.data_refs_hash(_REFS)
        == "2468d5c26cc85968acaf8b96d09476453916ea4eab41632a31d09efc7ab297d2"
    )
    assert canonical.data_refs_json([]) == "[]"


def test_header_of_the_notes() -> None:
    text = (
        '{"id":"2cd37805-5f40-4e12-962e-67868cde3049","cid":"39296b6e-91b9-4a61-b279-833c85b04d94","type":"private",'
        '"txtype":"batch_pin","author":"0x12345","created":"2021-05-04T04:55:03.123456789Z","namespace":"ns1",'
        f'"group":"{_GROUP}","topics":["topic1","topic2"],"tag":"tag1",'
        '"datahash":"2468d5c26cc85968acaf8b96d09476453916ea4eab41632a31d09efc7ab297d2"}'
    )
    header = _header(text)
    assert canonical.message_header_json(header) == text
    assert (
        canonical.message_hash(header)
        == "b5b9da88ed83403754bf78ed596eab70b803fd02108635fb932c2416d9e379b7"
    )


def test_header_with_everything() -> None:
    header = MessageHeader(
        id=Uuid("2cd37805-5f40-4e12-962e-67868cde3049"),
        type=MessageType.TRANSFER_BROADCAST,
        txtype=TransactionType.BATCH_PIN,
        author="did:firefly:org/<a>",
        key='"k"',
        created=canonical.parse_time("2021-05-04T04:55:03Z"),
        namespace="ns",
        topics=("a&b",),
        datahash=Hash32("0" * 64),
        txparent=TransactionRef(
            TransactionType.TOKEN_TRANSFER, Uuid("39296b6e-91b9-4a61-b279-833c85b04d94")
        ),
    )
    assert canonical.message_header_json(header) == (
        '{"id":"2cd37805-5f40-4e12-962e-67868cde3049","type":"transfer_broadcast","txtype":"batch_pin",'
        '"author":"did:firefly:org/\\u003ca\\u003e","key":"\\"k\\"","created":"2021-05-04T04:55:03Z","namespace":"ns",'
        f'"topics":["a\\u0026b"],"datahash":"{"0" * 64}",'
        '"txparent":{"type":"token_transfer","id":"39296b6e-91b9-4a61-b279-833c85b04d94"}}'
    )


def test_group_of_the_notes() -> None:
    members = [("0x12345", "8b5c0d39-925f-4579-9c60-54f3e846ab99")]
    assert (
        canonical.group_hash("ok", "ok", members)
        == "c2e5a42207ce2b48d67a4682a96f914ec0386acc13615550aa503b0841da8824"
    )
    assert canonical.group_json("", "", members[:0]) == '{"name":"","members":[]}'


def test_contexts_and_pins_of_the_notes() -> None:
    assert (
        canonical.broadcast_context("topic1")
        == "9e065a7cbddfc57be742bc32956674c3c389521ac2bbb1dce0500d5131fede75"
    )
    assert (
        canonical.private_context("topic1", _GROUP)
        == "5b7fe0c79f2b464c395de9733a03c7709bd94d9ba2f5664d0a9bcc0e764fecc6"
    )
    assert (
        canonical.private_pin("topic1", _GROUP, "did:firefly:org/org1", 0)
        == "9c3b07a58e9e370757d21debf9e6f76d7e4d3257e80f420f12a45d329a305e8e"
    )
    assert (
        canonical.nonce_key("topic1", _GROUP, "did:firefly:org/org1")
        == sha256(b"topic1" + bytes.fromhex(_GROUP) + b"did:firefly:org/org1").hexdigest()
    )


def test_data_with_value_and_blob_of_the_notes() -> None:
    blob = sha256(b"blob").hexdigest()
    assert (
        canonical.data_hash("1", blob)
        == "9fc86981f845ad8efefd242ac1d9ef51394dff570975afa634984cbe1f265039"
    )
    assert canonical.data_hash(None, blob) == canonical.data_hash("null", blob) == blob
    assert canonical.data_hash("1") == sha256(b"1").hexdigest()
    with pytest.raises(ValueError, match="value or a blob"):
        canonical.data_hash("null")


@pytest.mark.parametrize("vector", _vectors("message.hash"))
def test_recorded_headers(vector: dict[str, Any]) -> None:
    header = _header(vector["input"])
    assert canonical.message_header_json(header) == vector["input"]
    assert canonical.message_hash(header) == vector["sha256"]


@pytest.mark.parametrize("vector", _vectors("header.datahash"))
def test_recorded_data_references(vector: dict[str, Any]) -> None:
    refs = [(r["id"], r["hash"]) for r in json.loads(vector["input"])]
    assert canonical.data_refs_json(refs) == vector["input"]
    assert canonical.data_refs_hash(refs) == vector["sha256"]


@pytest.mark.parametrize("vector", _vectors("data.hash"))
def test_recorded_data(vector: dict[str, Any]) -> None:
    value = (
        vector.get("value", vector.get("input"))
        if vector["rule"] != "blob only: the blob's sha256 itself"
        else None
    )
    if value is not None:
        assert canonical.compact(value) == value
        spaced = json.dumps(json.loads(value), indent=1, ensure_ascii=False)
        assert json.loads(canonical.compact(spaced)) == json.loads(value)
    assert canonical.data_hash(value, vector.get("blob")) == vector["sha256"]


@pytest.mark.parametrize("vector", _vectors("batch.hash"))
def test_recorded_manifests(vector: dict[str, Any]) -> None:
    raw = json.loads(vector["input"])
    manifest = canonical.manifest_json(
        raw["id"],
        raw["tx"]["type"],
        raw["tx"]["id"],
        [(m["id"], m["hash"], m["topics"]) for m in raw["messages"]],
        [(d["id"], d["hash"]) for d in raw["data"]],
    )
    assert manifest == vector["input"]
    assert canonical.batch_hash(manifest) == vector["sha256"]


@pytest.mark.parametrize("vector", _vectors("group.hash"))
def test_recorded_groups(vector: dict[str, Any]) -> None:
    raw = json.loads(vector["input"])
    members = [(m["identity"], m["node"]) for m in raw["members"]]
    assert canonical.group_json(raw["namespace"], raw["name"], reversed(members)) == vector["input"]
    assert canonical.group_hash(raw["namespace"], raw["name"], members) == vector["sha256"]


@pytest.mark.parametrize("vector", _vectors("broadcast.pin"))
def test_recorded_broadcast_contexts(vector: dict[str, Any]) -> None:
    assert canonical.broadcast_context(vector["input"]) == vector["sha256"]


@pytest.mark.parametrize("vector", _vectors("private.context"))
def test_recorded_private_contexts(vector: dict[str, Any]) -> None:
    assert canonical.private_context(vector["topic"], vector["group"]) == vector["sha256"]


@pytest.mark.parametrize("vector", [*_vectors("private.pin"), *_vectors("next.pin")])
def test_recorded_private_pins(vector: dict[str, Any]) -> None:
    pin = canonical.private_pin(vector["topic"], vector["group"], vector["author"], vector["nonce"])
    assert pin == vector["sha256"]


@pytest.mark.parametrize("vector", _vectors("verifier.hash"))
def test_recorded_verifiers(vector: dict[str, Any]) -> None:
    text = vector["input"]
    kind = next(k for k in ("ethereum_address", "dx_peer_id") if k in text)
    namespace, value = text.split(kind, 1)
    assert canonical.verifier_hash(namespace, kind, value) == vector["sha256"]


@pytest.mark.parametrize("vector", _vectors("identity.topic"))
def test_recorded_identity_topics(vector: dict[str, Any]) -> None:
    assert canonical.identity_topic(vector["input"]) == vector["sha256"]


@pytest.mark.parametrize("vector", _vectors("definition.topic"))
def test_recorded_definition_topics(vector: dict[str, Any]) -> None:
    kind, name = vector["ref"].split("/", 1)
    if kind + name != vector["input"]:
        kind = vector["input"].removesuffix(name)
    assert canonical.definition_topic(kind, name) == vector["sha256"]


def test_every_kind_of_vector_is_used() -> None:
    assert {v["kind"] for v in _VECTORS} == {
        "message.hash",
        "header.datahash",
        "data.hash",
        "batch.hash",
        "group.hash",
        "broadcast.pin",
        "private.context",
        "private.pin",
        "next.pin",
        "verifier.hash",
        "identity.topic",
        "definition.topic",
    }
