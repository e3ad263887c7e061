"""How each contract makes events happen, and which mutating calls it has: what the general checks work with."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import data_exchange_pb2 as exchange
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import shared_storage_pb2 as storage
from photinus.connector.v1 import tokens_pb2 as tokens

from photinus_sanity.probe import SUBMIT_EPOCH, Probe
from photinus_sanity.session import Session
from photinus_sanity.wire import Wire

HASH_BYTES = 32
NODE = "node"


@dataclass(frozen=True)
class Mutation:
    """A mutating unary call.

    Attributes:
        method: `Service.Method`.
        request: Makes a request; variant 1 has other arguments than variant 0.
        submits: Whether it begins work, so that its answer holds a submission.
    """

    method: str
    request: Callable[[common.MutationContext, int], Any]
    submits: bool = True


class Source(ABC):
    """Makes events of one contract happen, each with a marker to know it by.

    Attributes:
        probe: The check it works for.
        checkpointed: Whether listeners have checkpoints.
    """

    checkpointed = True

    def __init__(self, probe: Probe) -> None:
        self.probe = probe

    @property
    def listening(self) -> Wire:
        """Where a listener's stream is to be opened."""
        return self.probe.wire

    async def start(self) -> None:
        """Prepares what emitting needs."""
        return

    @abstractmethod
    def listener(self, name: str = "a") -> events.Listener:
        """A listener that gets what is emitted from now on; two on a ledger get the same."""

    @abstractmethod
    def submission(
        self, context: common.MutationContext, marker: str, padding: int = 0, to: str = "a"
    ) -> tuple[str, Message]:
        """Method and request that make one event with this marker."""

    @abstractmethod
    def marker(self, event: events.Event) -> str:
        """Marker of an event; empty when it is not one of a source."""

    @abstractmethod
    def new_marker(self, key: str) -> str:
        """A marker for the event of a key."""

    @abstractmethod
    def mutations(self) -> list[Mutation]:
        """Mutating calls to try."""

    async def emit(self, count: int = 1, *, padding: int = 0, to: str = "a") -> list[str]:
        """Makes events happen, one after the other; their markers."""
        made = []
        for _ in range(count):
            key = self.probe.key("emit")
            made.append(self.new_marker(key))
            context = self.probe.context(key)
            method, request = self.submission(context, made[-1], padding, to)
            await self.probe.wire.call(method, request)
        return made

    def mine(self, found: Sequence[events.Event], markers: Sequence[str]) -> list[str]:
        """The markers among events, in order."""
        return [m for event in found if (m := self.marker(event)) in markers]

    @asynccontextmanager
    async def open(self, *names: str, **fields: Any) -> AsyncIterator[Any]:
        """An open stream with listeners of these names (`a` when none is given)."""
        async with self.probe.stream(self.listening) as stream:
            await stream.open(self.probe.ref, *map(self.listener, names or ("a",)), **fields)
            yield stream


class ChainSource(Source):
    """Pins on the multiparty contract; the marker is the batch's id."""

    async def start(self) -> None:
        """Finds where the chain stands, so that listeners do not begin with all that was before."""
        (marker,) = await self.emit()
        probe = self.probe
        async with probe.stream() as stream:
            await stream.open(probe.stream_ref("start"), self.listener("a"))
            while True:
                batch = await stream.batch()
                probe.session.kept["chain"] = batch.checkpoints.get("a", b"")
                if self.mine(batch.events, [marker]):
                    return
                await stream.ack(batch.seq)

    def listener(self, name: str = "a") -> events.Listener:
        return events.Listener(
            id=name,
            multiparty=events.MultipartyFilter(
                location_json=json.dumps(self.probe.get("blockchain.multiparty.location")),
                version=self.probe.get("blockchain.multiparty.version", 2),
            ),
            first_event="oldest",
            resume=self.probe.session.kept.get("chain", b""),
        )

    def submission(
        self,
        context: common.MutationContext,
        marker: str,
        padding: int = 0,
        to: str = "a",  # noqa: ARG002 - all listeners hear a pin
    ) -> tuple[str, Message]:
        return "BlockchainService.SubmitBatchPin", self.pin(context, marker, padding)

    def pin(
        self, context: common.MutationContext, batch_id: str, padding: int = 0
    ) -> blockchain.SubmitBatchPinRequest:
        """A pin whose content follows from its batch id."""
        seed = batch_id.replace("-", "") * 2
        contexts = [f"{n:08x}{seed[8:]}" for n in range(1 + padding // HASH_BYTES)]
        return blockchain.SubmitBatchPinRequest(
            context=context,
            network_namespace=self.probe.network,
            signing_key=self.probe.get("blockchain.signingKey"),
            pin=blockchain.BatchPin(
                transaction_uuid=self.probe.uuid(f"tx {batch_id}"),
                batch_id=batch_id,
                batch_hash=seed,
                payload_ref=f"ref-{batch_id}",
                contexts=contexts,
            ),
            location_json=json.dumps(self.probe.get("blockchain.multiparty.location")),
        )

    def marker(self, event: events.Event) -> str:
        return "" if event.removed else event.batch_pin.batch_id

    def new_marker(self, key: str) -> str:
        return self.probe.uuid(key)

    def mutations(self) -> list[Mutation]:
        def pin(context: common.MutationContext, variant: int) -> Message:
            return self.pin(context, self.probe.uuid(f"{context.idempotency_key}/{variant}"))

        def action(context: common.MutationContext, variant: int) -> Message:
            return blockchain.SubmitNetworkActionRequest(
                context=context,
                signing_key=self.probe.get("blockchain.signingKey"),
                action="sanity",
                payload=f"payload {variant}",
                location_json=json.dumps(self.probe.get("blockchain.multiparty.location")),
            )

        found = [
            Mutation("BlockchainService.SubmitBatchPin", pin),
            Mutation("BlockchainService.SubmitNetworkAction", action),
        ]
        if self.probe.get("blockchain.contract.invoke") is not None:
            found.append(Mutation("BlockchainService.InvokeContract", self.invoke))
        return found

    def invoke(self, context: common.MutationContext, variant: int) -> Message:
        """A call of the fixture's contract; its inputs are a list, one object per variant."""
        given = self.probe.get("blockchain.contract")
        return blockchain.InvokeContractRequest(
            context=context,
            signing_key=self.probe.get("blockchain.signingKey"),
            location_json=json.dumps(given["location"]),
            method=blockchain.MethodRef(method_json=json.dumps(given["invoke"]["method"])),
            input_json=json.dumps(given["invoke"]["inputs"][variant]),
        )


class TokenSource(Source):
    """Mints into a pool of its own; the marker is the amount."""

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.locator = ""
        self.pool_id = probe.uuid("pool")

    async def start(self) -> None:
        self.locator = (await self.create_pool()).pool_locator
        activation = tokens.ActivatePoolRequest(
            context=self.probe.context(self.probe.key("activate")),
            pool_locator=self.locator,
            pool_id=self.pool_id,
        )
        await self.probe.wire.call("TokensService.ActivatePool", activation)

    async def create_pool(self) -> events.TokenPoolEvent:
        """A new pool; the event that tells of it."""
        probe = self.probe
        key = probe.key("pool")
        request = self.pool_request(probe.context(key), 0)
        async with probe.stream() as stream:
            await stream.open(probe.submit_ref, epoch=SUBMIT_EPOCH)
            await probe.wire.call("TokensService.CreatePool", request)
            found = await stream.collect(
                lambda seen: any(e.token_pool.idempotency_key == key for e in seen),
                what="the TokenPoolEvent of CreatePool",
            )
        return next(e.token_pool for e in found if e.token_pool.idempotency_key == key)

    def pool_request(self, context: common.MutationContext, variant: int) -> Message:
        return tokens.CreatePoolRequest(
            context=context,
            type="fungible",
            signing_key=self.probe.get("tokens.signingKey"),
            name=f"{self.probe.name}-{variant}",
            symbol="SAN",
            config_json=json.dumps(self.probe.get("tokens.config", {})),
            pool_id=self.pool_id,
        )

    def listener(self, name: str = "a") -> events.Listener:
        return events.Listener(
            id=name,
            token_pool=events.TokenPoolFilter(pool_locator=self.locator, pool_id=self.pool_id),
            first_event="oldest",
        )

    def submission(
        self,
        context: common.MutationContext,
        marker: str,
        padding: int = 0,
        to: str = "a",  # noqa: ARG002 - all listeners hear a transfer
    ) -> tuple[str, Message]:
        return "TokensService.Mint", self.mint(context, marker, "x" * padding)

    def mint(self, context: common.MutationContext, amount: str, data: str = "") -> Message:
        key = self.probe.get("tokens.signingKey")
        return tokens.MintRequest(context=context, action=self.action(amount, data), to=key)

    def action(self, amount: str, data: str = "") -> tokens.TokenAction:
        return tokens.TokenAction(
            pool_locator=self.locator,
            signing_key=self.probe.get("tokens.signingKey"),
            amount=amount,
            data=data,
        )

    def marker(self, event: events.Event) -> str:
        return event.token_transfer.amount

    def new_marker(self, key: str) -> str:
        return str(1000 + int(key.rpartition("-")[2]))

    def mutations(self) -> list[Mutation]:
        def mint(context: common.MutationContext, variant: int) -> Message:
            return self.mint(context, str(5 + variant))

        def approve(context: common.MutationContext, variant: int) -> Message:
            return tokens.ApproveRequest(
                context=context,
                pool_locator=self.locator,
                signing_key=self.probe.get("tokens.signingKey"),
                operator=self.probe.get("tokens.otherAccount"),
                approved=not variant,
            )

        return [
            Mutation("TokensService.Mint", mint),
            Mutation("TokensService.Approve", approve),
            Mutation("TokensService.CreatePool", self.pool_request),
        ]


class PeerSource(Source):
    """Messages from the main instance to the second; the marker is in their text."""

    checkpointed = False

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.sender = ""
        self.documents: dict[str, exchange.GetEndpointResponse] = {}

    @property
    def listening(self) -> Wire:
        """The second instance: it receives."""
        assert self.probe.session.second is not None
        return self.probe.session.second

    async def start(self) -> None:
        """Makes the two members known to each other, in a namespace of this check."""
        probe = self.probe
        own = await self.endpoint(probe.wire, NODE)
        self.sender = own.peer_id
        await self.add_peer(self.listening, probe.ref, own.peer_json)
        await self.receiver("a")

    async def receiver(self, name: str) -> str:
        """Peer id of a listener's node, made known to the sender."""
        if name not in self.documents:
            found = await self.endpoint(self.listening, self.node_of(name))
            self.documents[name] = found
            await self.add_peer(self.probe.wire, self.probe.submit_ref, found.peer_json)
        return self.documents[name].peer_id

    async def endpoint(self, wire: Wire, node: str) -> exchange.GetEndpointResponse:
        request = exchange.GetEndpointRequest(node_name=node)
        answer: exchange.GetEndpointResponse = await wire.call(
            "DataExchangeService.GetEndpoint", request
        )
        return answer

    async def add_peer(self, wire: Wire, ref: common.StreamRef, document: str) -> None:
        key = self.probe.key("peer")
        request = exchange.AddPeerRequest(
            context=self.probe.context(key, epoch=0, ref=ref),
            network_namespace=self.probe.network,
            peer_json=document,
        )
        await wire.call("DataExchangeService.AddPeer", request)

    def node_of(self, name: str) -> str:
        return f"{NODE}-{self.probe.name}-{name}"

    def listener(self, name: str = "a") -> events.Listener:
        return events.Listener(
            id=name,
            destination=events.DestinationFilter(
                network_namespace=self.probe.network, node_name=self.node_of(name)
            ),
        )

    async def emit(self, count: int = 1, *, padding: int = 0, to: str = "a") -> list[str]:
        await self.receiver(to)
        return await super().emit(count, padding=padding, to=to)

    def submission(
        self, context: common.MutationContext, marker: str, padding: int = 0, to: str = "a"
    ) -> tuple[str, Message]:
        return "DataExchangeService.SendMessage", self.message(context, marker, padding, to)

    def message(
        self, context: common.MutationContext, marker: str, padding: int = 0, to: str = "a"
    ) -> exchange.SendMessageRequest:
        return exchange.SendMessageRequest(
            context=context,
            recipient=self.documents[to].peer_id,
            sender=self.sender,
            message=self.text(marker, padding),
        )

    def text(self, marker: str, padding: int = 0) -> str:
        """FireFly's transport wrapper around a marker."""
        payload = {"marker": marker, "padding": "x" * padding}
        batch = {"id": marker, "namespace": self.probe.network, "payload": payload}
        return json.dumps({"batch": batch})

    def marker(self, event: events.Event) -> str:
        if event.WhichOneof("body") != "message_received":
            return ""
        return str(json.loads(event.message_received.message)["batch"]["id"])

    def new_marker(self, key: str) -> str:
        return self.probe.uuid(key)

    def mutations(self) -> list[Mutation]:
        def message(context: common.MutationContext, variant: int) -> Message:
            return self.message(
                context, self.probe.uuid(f"{context.idempotency_key}/{variant}"), variant
            )

        def peer(context: common.MutationContext, variant: int) -> Message:
            document = json.loads(self.documents["a"].peer_json)
            document["endpoint"] += "/other" * variant
            return exchange.AddPeerRequest(
                context=context,
                network_namespace=self.probe.network,
                peer_json=json.dumps(document),
            )

        return [
            Mutation("DataExchangeService.SendMessage", message),
            Mutation("DataExchangeService.AddPeer", peer, submits=False),
        ]


class StorageCalls:
    """Mutating calls of shared storage, which makes no events."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.references: list[str] = []

    async def start(self) -> None:
        for n in range(2):
            content = f"{self.probe.name} {n}".encode()
            self.references.append((await store(self.probe, content)).payload_ref)

    def mutations(self) -> list[Mutation]:
        if not self.probe.session.claims(connector.CAPABILITY_PINNING):
            return []

        def pin(context: common.MutationContext, variant: int) -> Message:
            return storage.PinRequest(context=context, payload_ref=self.references[variant])

        return [Mutation("SharedStorageService.Pin", pin, submits=False)]


SOURCES: dict[connector.ContractKind.ValueType, type[Source]] = {
    connector.CONTRACT_KIND_BLOCKCHAIN: ChainSource,
    connector.CONTRACT_KIND_TOKENS: TokenSource,
    connector.CONTRACT_KIND_DATA_EXCHANGE: PeerSource,
}


async def source_of(probe: Probe) -> Source:
    """The source of the first contract that begins work, ready to emit."""
    for kind, cls in SOURCES.items():
        claimed = probe.session.claimed(kind)
        if claimed is not None and connector.CAPABILITY_EVENTS in claimed.capabilities:
            source = cls(probe)
            await source.start()
            return source
    raise AssertionError("guarded by needs.submits")


async def mutations_of(probe: Probe) -> list[Mutation]:
    """Mutating calls of all contracts that can be tried here."""
    found: list[Mutation] = []
    for kind, part in PARTS.items():
        if usable(probe.session, kind, part):
            source = SOURCES[kind](probe)
            await source.start()
            found += source.mutations()
    if probe.session.claimed(connector.CONTRACT_KIND_SHARED_STORAGE) is not None:
        calls = StorageCalls(probe)
        await calls.start()
        found += calls.mutations()
    return found


PARTS = {
    connector.CONTRACT_KIND_BLOCKCHAIN: "blockchain.multiparty",
    connector.CONTRACT_KIND_TOKENS: "tokens",
    connector.CONTRACT_KIND_DATA_EXCHANGE: "",
}


def usable(session: Session, kind: connector.ContractKind.ValueType, part: str) -> bool:
    """Whether a contract is claimed and the fixture has what its source needs."""
    if session.claimed(kind) is None or (part and session.setup.get(part) is None):
        return False
    return kind != connector.CONTRACT_KIND_DATA_EXCHANGE or session.second is not None


async def store(probe: Probe, content: bytes, key: str = "") -> storage.UploadResponse:
    """Uploads bytes to shared storage."""
    context = probe.context(key or probe.key("upload"), epoch=0)
    frames = upload_frames(storage.UploadRequest, storage.UploadHeader(context=context), content)
    answer: storage.UploadResponse = await probe.wire.upload("SharedStorageService.Upload", frames)
    return answer


CHUNK_BYTES = 1 << 20


def upload_frames(frame: Any, header: Message, content: bytes) -> list[Any]:
    """Header, chunks and end of an upload."""
    chunks = [content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES)]
    return [
        frame(header=header),
        *(frame(chunk=chunk) for chunk in chunks),
        frame(end=common.UploadEnd(size=len(content))),
    ]
