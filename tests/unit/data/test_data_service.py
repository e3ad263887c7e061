"""Data items: references, inline values, blobs and their cleaning up, datatypes.

Method: the real SQLite store, the data exchange in memory; failures are made where a call goes out.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from photinus.api.v1 import data_pb2
from photinus_core.data.datatypes import DatatypeDefiner
from photinus_core.data.inputs import DataInput
from photinus_core.data.schemas import compile_schema
from photinus_core.data.service import DataService
from photinus_core.definitions import rules
from photinus_core.definitions.payloads import DatatypeDefinition, decode_definition
from photinus_core.host.fakes import FakeDataExchange, FakeWorld
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.model import canonical
from photinus_core.model.errors import NotFound, PhotinusError, Rejected, Unavailable
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, new_uuid
from photinus_core.model.messages import DatatypeRef, Message, SystemTag, Validator
from photinus_core.model.network import Datatype
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.scope import Scope
from photinus_core.rpc.services.data import upload_value
from photinus_core.store import SqliteStore

from tests.support.store_records import make_identity, make_message, make_verifier

NS = Namespace("alpha")


class Place:
    """A data service on a store of its own."""

    def __init__(self, store: SqliteStore, exchange: FakeDataExchange) -> None:
        self.store, self.exchange = store, exchange
        self.data = DataService(store, NS, SystemClock(), exchange)

    async def define(self, schema: object, name: str = "widget", version: str = "1") -> None:
        made = Datatype(
            new_uuid(), NS, name, version, Hash32("0" * 64), Nanoseconds(1), json.dumps(schema)
        )
        async with self.store.write(NS) as tx:
            await tx.insert_datatype(made)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store = await SqliteStore.open(tmp_path / "core.db")
    async with FakeWorld() as world:
        yield Place(store, world.member("alice").data_exchange)
    await store.aclose()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def refused(place: Place, *items: DataInput) -> str:
    with pytest.raises(PhotinusError) as caught:
        await place.data.resolve(items)
    async with place.store.read(NS) as reader:
        assert await reader.data([i.id for i in items if i.id]) is not None
    return caught.value.code


async def test_values_are_kept_byte_for_byte_and_nothing_is_stored_yet(place: Place) -> None:
    text = '{"b": 1.0, "a": 1e3, "c": "<&>"}'
    resolved = await place.data.resolve([DataInput(value=text), DataInput(value='"x"')])
    assert [d.value for d in resolved.new] == [
        '{"b":1.0,"a":1e3,"c":"\\u003c\\u0026\\u003e"}',
        '"x"',
    ]
    assert resolved.new[0].hash == canonical.data_hash(resolved.new[0].value)
    assert [(r.id, r.hash) for r in resolved.refs] == [(d.id, d.hash) for d in resolved.new]
    with pytest.raises(NotFound, match="FF10143"):
        await place.data.get(resolved.new[0].id)
    assert (await place.data.resolve([])).refs == ()


async def test_references_and_values_keep_the_callers_order(place: Place) -> None:
    stored = await place.data.store_value(DataInput(value="1"))
    resolved = await place.data.resolve(
        [DataInput(value="0"), DataInput(id=stored.id, hash=stored.hash), DataInput(value="2")]
    )
    assert [d.value for d in resolved.all] == ["0", "1", "2"]
    assert [d.value for d in resolved.new] == ["0", "2"]
    assert resolved.refs[1].id == stored.id


async def test_what_cannot_be_resolved(place: Place) -> None:
    stored = await place.data.store_value(DataInput(value="1"))
    good = DataInput(value="1")
    assert await refused(place, good, DataInput(id=new_uuid())) == "FF10204"
    assert await refused(place, DataInput(id=stored.id, hash=Hash32("0" * 64))) == "FF10204"
    assert await refused(place, good, DataInput()) == "FF10205"
    assert await refused(place, DataInput(value="null")) == "FF00109"
    assert await refused(place, DataInput(value="{")) == "FF19001"
    assert await refused(place, DataInput(value="1", validator="xml")) == "FF00108"
    # Every member would reject the whole batch of a message that names an item twice.
    assert await refused(place, DataInput(id=stored.id), DataInput(id=stored.id)) == "FF00129"
    with pytest.raises(Rejected, match="FF00109"):
        await place.data.store_value(DataInput())


async def test_values_must_fit_their_datatype(place: Place) -> None:
    await place.define({"type": "integer"})
    widget = DatatypeRef("widget", "1")
    good = await place.data.make_value(DataInput(value="1", datatype=widget))
    assert good.datatype == widget
    for bad, code in [
        (DataInput(value='"x"', datatype=widget), "FF10198"),
        (DataInput(value="1", datatype=DatatypeRef("widget", "2")), "FF10195"),
        (DataInput(value="1", datatype=DatatypeRef("", "1")), "FF10195"),
        (DataInput(value="1", datatype=DatatypeRef("widget", "")), "FF10195"),
    ]:
        assert await refused(place, bad) == code
    # As FireFly: nobody asks for the datatype of a value that is not to be checked.
    loose = DataInput(value='{"any":true}', validator="none", datatype=DatatypeRef("loose", "1"))
    assert (await place.data.make_value(loose)).validator is Validator.NONE


@pytest.mark.parametrize("validator", ["json", "none", "definition"])
async def test_validators_are_kept_as_given(place: Place, validator: str) -> None:
    """Of a value without datatype none of them asks anything; with one, only `json` does."""
    made = await place.data.store_value(DataInput(value="1", validator=validator))
    assert (await place.data.get(made.id)).validator == validator
    await place.define({"type": "string"})
    wrong = DataInput(value="1", validator=validator, datatype=DatatypeRef("widget", "1"))
    if validator == "json":
        assert await refused(place, wrong) == "FF10198"
    else:
        assert (await place.data.make_value(wrong)).datatype == wrong.datatype
    for unknown in ("JSON", "schema", " json"):
        assert await refused(place, DataInput(value="1", validator=unknown)) == "FF00108"


async def test_remembered_datatypes_are_bounded(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("photinus_core.data.service.DATATYPE_CACHE_MAX", 2)
    for version in "12345":
        await place.define(True, version=version)
        for _ in range(2):
            found = await place.data.datatype(DatatypeRef("widget", version))
            assert found.version == version
    assert len(place.data._datatypes) <= 2


# Blobs


async def test_a_blob_is_streamed_hashed_and_found_again(place: Place) -> None:
    row = await place.data.upload(
        chunks(b"hello ", b"world"), metadata='{"path": "/a/b", "filename": "c.txt"}'
    )
    digest = hashlib.sha256(b"hello world").hexdigest()
    assert row.blob is not None
    assert (row.blob.hash, row.blob.size, row.blob.name, row.blob.path) == (
        digest,
        11,
        "/a/b/c.txt",
        "/a/b",
    )
    assert row.hash == canonical.data_hash(row.value, row.blob.hash)
    assert await place.data.get(row.id) == row
    blob = await place.data.blob(row.id)
    assert b"".join([c async for c in place.data.download(blob)]) == b"hello world"


@pytest.mark.parametrize("metadata", [None, "null"])
async def test_a_blob_without_value(place: Place, metadata: str | None) -> None:
    row = await place.data.upload(chunks(b"x"), metadata=metadata)
    assert row.value is None
    assert row.blob is not None
    assert row.hash == row.blob.hash


async def test_a_blob_with_a_datatype(place: Place) -> None:
    await place.define({"required": ["id"], "type": "object"})
    widget = DatatypeRef("widget", "1")
    row = await place.data.upload(chunks(b"x"), metadata='{"id":1}', datatype=widget)
    assert row.datatype == widget
    for metadata in ("{}", None):
        with pytest.raises(Rejected, match="FF10198"):
            await place.data.upload(chunks(b"x"), metadata=metadata, datatype=widget)


@pytest.mark.parametrize(
    ("metadata", "validator", "code"),
    [
        ("{", "", "FF19001"),
        ("1", "xml", "FF00108"),
        ('{"name":"a\\u0000b"}', "", "FF19008"),
        (json.dumps({"name": "x" * 1025}), "", "FF00135"),
    ],
)
async def test_an_upload_that_is_refused_before_a_byte_is_read(
    place: Place, metadata: str, validator: str, code: str
) -> None:
    async def unread() -> AsyncIterator[bytes]:
        for part in (b"x",):
            assert not part, "it was read"
            yield part

    with pytest.raises(Rejected, match=code):
        await place.data.upload(unread(), metadata=metadata, validator=validator)


async def test_an_upload_that_breaks_off_leaves_nothing(place: Place) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise Rejected("FF19007", 3)

    with pytest.raises(Rejected, match="FF19007"):
        await place.data.upload(broken())
    assert place.exchange._blobs == {}


async def test_a_blob_whose_row_cannot_be_written_is_deleted_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unavailable("FF19100")

    monkeypatch.setattr(place.store, "write", away)
    with pytest.raises(Unavailable):
        await place.data.upload(chunks(b"x"))
    assert place.exchange._blobs == {}


async def test_a_data_exchange_that_stored_something_else(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = place.exchange.upload_blob

    async def lying(*arguments: object) -> tuple[str, Hash32, int]:
        reference, _, size = await true(*arguments)  # type: ignore[arg-type]  # passed on
        return reference, Hash32("0" * 64), size

    monkeypatch.setattr(place.exchange, "upload_blob", lying)
    with pytest.raises(Rejected, match="FF10238"):
        await place.data.upload(chunks(b"x"))
    assert place.exchange._blobs == {}


async def test_what_has_no_blob_or_not_yet(place: Place) -> None:
    value = await place.data.store_value(DataInput(value="1"))
    with pytest.raises(NotFound, match="FF10241"):
        await place.data.blob(value.id)
    with pytest.raises(NotFound, match="FF10143"):
        await place.data.blob(new_uuid())
    row = await place.data.upload(chunks(b"x"))
    assert row.blob is not None
    other = msgspec.structs.replace(row, id=new_uuid())
    async with place.store.write(NS) as tx:
        await tx.insert_data([other])
    with pytest.raises(NotFound, match=row.blob.hash):
        await place.data.blob(other.id)


async def test_deleting_takes_the_blob_along(place: Place) -> None:
    row = await place.data.upload(chunks(b"x"))
    value = await place.data.store_value(DataInput(value="1"))
    await place.data.delete(row.id)
    await place.data.delete(value.id)
    assert place.exchange._blobs == {}
    for gone in (row.id, value.id, new_uuid()):
        with pytest.raises(NotFound, match="FF10143"):
            await place.data.delete(gone)


async def test_without_a_data_exchange_there_are_no_blobs(place: Place) -> None:
    row = await place.data.upload(chunks(b"x"))
    gateway = DataService(place.store, NS, SystemClock(), None)
    with pytest.raises(Rejected, match="FF10414"):
        await gateway.upload(chunks(b"x"))
    with pytest.raises(Rejected, match="FF10414"):
        gateway.download(await gateway.blob(row.id))
    await gateway.delete(row.id)


# The value beside an upload


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ({}, None),
        ({"metadata": '{"a": 1.0}'}, '{"a":1.0}'),
        ({"metadata": "plain text"}, '"plain text"'),
        ({"metadata": 'say "hi"'}, '"say \\"hi\\""'),
        (
            {"autometa": True, "filename": "f<.txt", "content_type": "text/plain"},
            '{"filename":"f\\u003c.txt","mimetype":"text/plain"}',
        ),
        (
            {
                "autometa": True,
                "metadata": '{"z": 1.0, "a": [1, 2], "filename": "old"}',
                "filename": "new",
            },
            '{"a":[1,2],"filename":"new","mimetype":"","z":1.0}',
        ),
    ],
)
def test_the_value_beside_an_upload(header: dict[str, object], value: str | None) -> None:
    assert upload_value(data_pb2.UploadHeader(**header)) == value  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("metadata", ["[1]", "text", "1"])
def test_autometa_needs_an_object(metadata: str) -> None:
    with pytest.raises(Rejected, match="FF19002"):
        upload_value(data_pb2.UploadHeader(metadata=metadata, autometa=True))


# Defining datatypes


class Sender:
    """Takes definitions and keeps them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, SystemTag, str, str, str]] = []

    async def send_definition(
        self, topic: str, tag: SystemTag, payload_json: str, author: str, key: str
    ) -> Message:
        self.sent.append((topic, tag, payload_json, author, key))
        return make_message()


async def definer(place: Place) -> tuple[DatatypeDefiner, Sender]:
    org = make_identity("org0")
    async with place.store.write(NS) as tx:
        await tx.upsert_identity(org)
        await tx.insert_verifiers([make_verifier(org.base.id, "0xabc")])
    async with FakeWorld() as world:
        blockchain = world.member("alice").blockchain
    blockchain._keys = ("0xabc",)
    scope = Scope(place.store, SystemClock(), NS, "net")
    resolver = IdentityResolver(place.store, NS, blockchain, org_name="org0", org_key="0xabc")
    sender = Sender()
    return DatatypeDefiner(scope, resolver, sender, compile_schema), sender


async def test_a_datatype_is_sent_as_a_definition(place: Place) -> None:
    made, sender = await definer(place)
    sent = await made.define("widget", "1.0", '{ "type": "string" }', "json")
    ((topic, tag, payload, author, key),) = sender.sent
    assert (tag, author, key) == (SystemTag.DEFINE_DATATYPE, "did:firefly:org/org0", "0xabc")
    assert topic == rules.datatype_topic("widget")
    assert sent.value == '{"type":"string"}'
    assert sent.hash == canonical.hash_text(sent.value)
    decoded = decode_definition(tag, new_uuid(), payload)
    assert isinstance(decoded, DatatypeDefinition)
    assert (decoded.id, decoded.name, decoded.version, decoded.value) == (
        sent.id,
        "widget",
        "1.0",
        sent.value,
    )


@pytest.mark.parametrize(
    ("name", "version", "value", "validator", "code"),
    [
        ("widget", "1", "{}", "xml", "FF00108"),
        ("wid get", "1", "{}", "", "FF00140"),
        ("widget", "", "{}", "", "FF00140"),
        ("widget", "1", "", "", "FF00112"),
        ("widget", "1", "null", "", "FF00112"),
        ("widget", "1", "{", "", "FF10196"),
        ("widget", "1", '{"type":"absent"}', "", "FF10196"),
        ("known", "1", "{}", "", "FF10407"),
    ],
)
async def test_a_datatype_that_is_refused(
    place: Place, name: str, version: str, value: str, validator: str, code: str
) -> None:
    await place.define(True, name="known")
    made, sender = await definer(place)
    with pytest.raises(PhotinusError, match=code):
        await made.define(name, version, value, validator)
    assert sender.sent == []
