"""What correct and hostile members send: definitions, broadcasts, private batches.

Built with the product's own hashes and encoders, so what is tested is what travels.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from photinus_core.definitions import payloads, rules
from photinus_core.definitions.payloads import IdentityClaim
from photinus_core.model import canonical
from photinus_core.model.ids import Hash32, Namespace, Nanoseconds, Uuid, new_uuid
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
    SystemTag,
    TransactionRef,
    Validator,
)
from photinus_core.model.network import IdentityBase, IdentityType
from photinus_core.model.wire import (
    WireBatch,
    batch_manifest,
    encode_batch,
    encode_group,
    encode_wrapper,
)

NS = Namespace("alpha")
NETWORK = "net"


def key_of(name: str) -> str:
    """The signing key of an organisation."""
    return "0x" + hashlib.sha256(name.encode()).hexdigest()[:40]


def peer_of(name: str) -> str:
    return f"{name}_dx/{name}_node"


@dataclass
class Org:
    """An organisation with a node."""

    name: str
    id: Uuid = field(default_factory=new_uuid)
    node: Uuid = field(default_factory=new_uuid)
    nonces: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def did(self) -> str:
        return rules.did_of(IdentityType.ORG, self.name)

    @property
    def key(self) -> str:
        return key_of(self.name)

    def base(self) -> IdentityBase:
        return IdentityBase(
            self.id, rules.did_of(IdentityType.ORG, self.name), IdentityType.ORG, "", self.name
        )

    def node_base(self) -> IdentityBase:
        name = f"{self.name}_node"
        return IdentityBase(
            self.node, rules.did_of(IdentityType.NODE, name), IdentityType.NODE, "", name, self.id
        )

    def profile(self) -> str:
        return payloads.normalize_profile(
            json.dumps(
                {"id": peer_of(self.name), "endpoint": f"https://{self.name}", "cert": "PEM"}
            )
        )


def value_data(
    value: object, datatype: DatatypeRef | None = None, validator: Validator = Validator.JSON
) -> Data:
    is_text = validator is Validator.DEFINITION and isinstance(value, str)
    text = str(value) if is_text else canonical.compact(json.dumps(value))
    return Data(
        id=new_uuid(),
        validator=validator,
        namespace=NS,
        hash=canonical.data_hash(text),
        created=Nanoseconds(1_700_000_000_000_000_000),
        value=text,
        datatype=datatype,
    )


def blob_data(content: bytes, public: str = "") -> Data:
    digest = Hash32(hashlib.sha256(content).hexdigest())
    return Data(
        id=new_uuid(),
        validator=Validator.JSON,
        namespace=NS,
        hash=canonical.data_hash(None, digest),
        created=Nanoseconds(1),
        value=None,
        blob=BlobRef(digest, len(content), public=public),
    )


@dataclass
class Sent:
    """A sealed batch as its sender made it."""

    wire: WireBatch
    contexts: tuple[Hash32, ...]
    group: Group | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.wire.messages

    @property
    def ids(self) -> list[Uuid]:
        return [m.header.id for m in self.wire.messages]

    def payload(self) -> bytes:
        return encode_batch(self.wire).encode()

    def wrapper(self) -> str:
        return encode_wrapper(self.wire, self.group if not self.contexts else None)


def message(
    author: str,
    key: str,
    data: Sequence[Data],
    topics: Sequence[str] = ("default",),
    kind: MessageType = MessageType.BROADCAST,
    tag: str = "",
    group: Hash32 | None = None,
    txtype: TransactionType = TransactionType.BATCH_PIN,
    **fields: Any,
) -> Message:
    """A message with its hashes; `fields` replaces members of the header."""
    refs = tuple(DataRef(d.id, d.hash) for d in data)
    header = MessageHeader(
        id=fields.pop("id", None) or new_uuid(),
        type=kind,
        txtype=txtype,
        author=author,
        key=key,
        created=Nanoseconds(1_700_000_000_000_000_000),
        namespace=fields.pop("namespace", NETWORK),
        topics=tuple(topics),
        datahash=canonical.data_refs_hash((r.id, r.hash) for r in refs),
        group=group,
        tag=tag,
        **fields,
    )
    return Message(header, canonical.message_hash(header), refs, NS, MessageState.READY)


def seal(
    messages: Sequence[Message],
    data: Sequence[Data],
    group: Group | None = None,
    node: Uuid | None = None,
    contexts: Sequence[Hash32] | None = None,
    txtype: TransactionType = TransactionType.BATCH_PIN,
) -> Sent:
    """Puts messages into a batch."""
    tx = TransactionRef(txtype, new_uuid())
    unique = list({d.id: d for d in data}.values())
    batch_id = new_uuid()
    manifest = batch_manifest(batch_id, tx, list(messages), [DataRef(d.id, d.hash) for d in unique])
    head = messages[0].header
    batch = Batch(
        id=batch_id,
        type=BatchType.BROADCAST if group is None else BatchType.PRIVATE,
        namespace=NS,
        author=head.author,
        key=head.key,
        created=Nanoseconds(1_700_000_000_000_000_000),
        hash=canonical.batch_hash(manifest),
        manifest=manifest,
        tx=tx,
        node=node,
        group=group.hash if group else None,
    )
    if contexts is None:
        contexts = [canonical.broadcast_context(t) for m in messages for t in m.header.topics]
    return Sent(WireBatch(batch, tuple(messages), tuple(unique), NETWORK), tuple(contexts), group)


def broadcast(
    org: Org, *values: object, topics: Sequence[str] = ("default",), tag: str = ""
) -> Sent:
    """A batch of broadcasts, one message per value."""
    data = [v if isinstance(v, Data) else value_data(v) for v in values]
    return seal([message(org.did, org.key, [d], topics, tag=tag) for d in data], data)


def definition(author: str, key: str, topic: str, tag: SystemTag, payload: str) -> Sent:
    item = value_data(payload, validator=Validator.DEFINITION)
    return seal([message(author, key, [item], [topic], MessageType.DEFINITION, tag)], [item])


def claim_org(org: Org, key: str = "") -> Sent:
    base = org.base()
    payload = payloads.encode_claim(IdentityClaim(base))
    return definition(
        org.did,
        key or org.key,
        canonical.identity_topic(base.did),
        SystemTag.IDENTITY_CLAIM,
        payload,
    )


def claim_node(org: Org) -> Sent:
    base = org.node_base()
    payload = payloads.encode_claim(IdentityClaim(base, profile=org.profile()))
    return definition(
        org.did, org.key, canonical.identity_topic(base.did), SystemTag.IDENTITY_CLAIM, payload
    )


def define_datatype(org: Org, name: str, version: str, schema: object) -> Sent:
    text = canonical.compact(json.dumps(schema))
    datatype = payloads.DatatypeDefinition(
        new_uuid(),
        name,
        version,
        canonical.hash_text(text),
        Nanoseconds(1_700_000_000_000_000_000),
        text,
    )
    payload = payloads.encode_datatype(datatype)
    return definition(
        org.did, org.key, rules.datatype_topic(name), SystemTag.DEFINE_DATATYPE, payload
    )


def group_of(*orgs: Org, name: str = "g") -> Group:
    members = sorted((GroupMember(o.did, o.node) for o in orgs), key=lambda m: m.identity)
    computed = canonical.group_hash(NETWORK, name, [(m.identity, m.node) for m in members])
    return Group(NS, NETWORK, name, tuple(members), computed, Nanoseconds(1))


def _private_pins(org: Org, group: Group, topics: Iterable[str]) -> list[Hash32]:
    pins = []
    for topic in topics:
        nonce = org.nonces.get((topic, group.hash), 0)
        org.nonces[topic, group.hash] = nonce + 1
        pins.append(canonical.private_pin(topic, group.hash, org.did, nonce))
    return pins


def private(
    org: Org,
    group: Group,
    *values: object,
    topics: Sequence[str] = ("default",),
    introduce: bool = False,
) -> Sent:
    """A pinned private batch; nonces are the sender's next."""
    messages, data, contexts = [], [], []
    if introduce:
        item = value_data(encode_group(group), validator=Validator.DEFINITION)
        data.append(item)
        messages.append(
            message(
                org.did,
                org.key,
                [item],
                [group.hash],
                MessageType.GROUP_INIT,
                SystemTag.DEFINE_GROUP,
                group.hash,
            )
        )
        contexts += _private_pins(org, group, [group.hash])
    for value in values:
        item = value if isinstance(value, Data) else value_data(value)
        data.append(item)
        messages.append(
            message(org.did, org.key, [item], topics, MessageType.PRIVATE, group=group.hash)
        )
        contexts += _private_pins(org, group, topics)
    return seal(messages, data, group, org.node, contexts)


def gap_fill(org: Org, lost: Sent) -> Sent:
    """What takes the place of a private batch that its sender gave up: the same nonces."""
    assert lost.group is not None
    messages = [
        message(
            org.did,
            org.key,
            [],
            m.header.topics,
            MessageType.PRIVATE,
            SystemTag.GAP_FILL,
            lost.group.hash,
            cid=m.header.id,
        )
        for m in lost.messages
    ]
    return seal(messages, [], lost.group, org.node, lost.contexts)


def unpinned(org: Org, group: Group, *values: object) -> Sent:
    data = [v if isinstance(v, Data) else value_data(v) for v in values]
    messages = [
        message(
            org.did,
            org.key,
            [d],
            kind=MessageType.PRIVATE,
            group=group.hash,
            txtype=TransactionType.UNPINNED,
        )
        for d in data
    ]
    return seal(messages, data, group, org.node, (), TransactionType.UNPINNED)


def forge(sent: Sent, **batch_fields: Any) -> Sent:
    """The same batch with members of its header replaced."""
    batch = msgspec.structs.replace(sent.wire.batch, **batch_fields)
    return Sent(msgspec.structs.replace(sent.wire, batch=batch), sent.contexts, sent.group)
