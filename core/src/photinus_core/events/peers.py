"""Takes what other members send privately: batches and blobs.

A peer is known by its certificate: the data exchange names it, the `dx_peer_id` verifier says which
node it is, and the batch must come from that node. A peer that is no known node yet (its claim is
still on its way) is parked within limits until an identity confirms. Everything else that is wrong
is refused and noted; the stream goes on.

Pinned batches are stored and wait for agreement. Unpinned ones are outside the agreed order: they
are judged against what is known now and confirmed, or rejected, at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from photinus_core.data.schemas import DatatypeSchemas
from photinus_core.definitions.guard import guarded
from photinus_core.events.entries import message_events
from photinus_core.events.intake import IntakeContext, StreamIntake
from photinus_core.events.verification import (
    defect_of,
    introduced_groups,
    is_storable_group,
    is_storable_number,
    verify_payload,
)
from photinus_core.events.wakeups import batch_wakeup, blob_wakeup, group_wakeup
from photinus_core.model.errors import Exhausted, PhotinusError, Rejected
from photinus_core.model.events import NewEvent
from photinus_core.model.ids import Hash32, Uuid, parse_hash, parse_uuid
from photinus_core.model.ledger import Transaction, TransactionType
from photinus_core.model.messages import (
    BatchType,
    Blob,
    Data,
    Group,
    Message,
    MessageState,
    Validator,
)
from photinus_core.model.network import Identity, IdentityType, VerifierType
from photinus_core.model.wire import WireBatch, decode_wrapper
from photinus_core.ports.connectors import ConnectorEvent, PeerBlob, PeerMessage
from photinus_core.ports.meter import Decided
from photinus_core.ports.store import (
    Decision,
    ParkedMessage,
    Reader,
    Wakeup,
    WriteTransaction,
)

PEER_MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest message of a peer that is read; batches are limited to far less."""
PARKED_MESSAGES_MAX: Final = 200
"""Most messages of one unknown peer that are kept."""
PARKED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Most bytes of one unknown peer that are kept."""
PARKED_PAGE: Final = 50


class UnknownSenderError(Exception):
    """The sender is no known node, so far."""


@dataclass(slots=True)
class _Sender:
    """Who sends, as far as this transaction has looked: immutable facts, read once each.

    And what it decides of what they sent.
    """

    nodes: dict[str, Identity | None] = field(default_factory=dict)
    identities: dict[str, Identity | None] = field(default_factory=dict)
    decided: list[Decided] = field(default_factory=list)
    """Messages that this transaction confirms or rejects."""

    async def node(self, reader: Reader, peer: str) -> Identity:
        """The node behind a peer id."""
        if peer not in self.nodes:
            verifier = await reader.verifier(VerifierType.DX_PEER_ID, peer)
            found = None if verifier is None else await reader.identity(verifier.identity)
            self.nodes[peer] = found
        node = self.nodes[peer]
        if node is None or node.base.type is not IdentityType.NODE:
            raise UnknownSenderError(peer)
        return node

    async def author(self, reader: Reader, did: str) -> Identity | None:
        """The author of a message."""
        if did not in self.identities:
            self.identities[did] = await reader.identity_by_did(did)
        return self.identities[did]

    async def is_within(self, reader: Reader, identity: Identity, ancestor: Uuid | None) -> bool:
        """Whether an identity is the ancestor or descends from it.

        Parents exist before children.
        """
        current: Identity | None = identity
        while current is not None:
            if current.base.id == ancestor:
                return True
            current = await reader.identity(current.base.parent) if current.base.parent else None
        return False


class PeerIntake(StreamIntake):
    """Consumer of the data exchange's stream.

    Args:
        own_node: Name of this member's node; messages of groups it is not in are refused.
    """

    def __init__(
        self, context: IntakeContext, own_node: str, consumer: str = "data_exchange"
    ) -> None:
        super().__init__(context, consumer)
        self._own_node = own_node
        self._schemas = DatatypeSchemas()
        self._decided: list[Decided] = []

    async def retry_parked(self, peer: str | None = None) -> int:
        """Looks again at what a peer, or every peer, has parked here.

        Returns:
            How many messages were taken or refused.
        """
        context, done = self._context, 0
        async with context.store.write(context.namespace, context.fence) as tx:
            senders = _Sender()
            settled = []
            for parked in await tx.parked_messages(peer, PARKED_PAGE):
                body = PeerMessage(parked.peer, parked.recipient, parked.payload, parked.received)
                try:
                    await self._accept(tx, body, senders)
                except UnknownSenderError:
                    continue
                except Rejected as failure:
                    context.refuse(parked.peer, parked.id, failure)
                settled.append(parked.id)
            if settled:
                await tx.unpark_messages(settled)
                done = len(settled)
        context.meter.decided(senders.decided)
        return done

    def _committed(self) -> None:
        self._context.meter.decided(self._decided)

    async def _take(
        self, tx: WriteTransaction, events: tuple[ConnectorEvent, ...]
    ) -> Mapping[str, str]:
        receipts: dict[str, str] = {}
        senders = _Sender()
        self._decided = senders.decided
        blobs: list[Blob] = []
        for event in events:
            match event.body:
                case PeerMessage() as body:
                    try:
                        receipts[event.id] = await self._accept(tx, body, senders)
                    except UnknownSenderError:
                        await self._park(tx, event.id, body)
                    except Rejected as failure:
                        self._context.refuse(body.sender, event.id, failure)
                case PeerBlob() as body:
                    try:
                        blobs.append(self._blob(body))
                    except Rejected as failure:
                        self._context.refuse(body.sender, event.id, failure)
                case _:
                    pass
        if blobs:
            await tx.insert_blobs(blobs)
            await tx.insert_wakeups([blob_wakeup(blob.data_id, blob.hash) for blob in blobs])
        return receipts

    def _blob(self, body: PeerBlob) -> Blob:
        if body.network_namespace != self._context.network_name:
            raise Rejected("FF19400", f"blob for namespace '{body.network_namespace}'")
        if not is_storable_number(body.size):
            raise Rejected("FF19400", f"blob of {body.size} bytes")
        return Blob(
            namespace=self._context.namespace,
            data_id=parse_uuid(body.data_id),
            hash=parse_hash(body.hash),
            payload_ref=body.payload_ref,
            size=body.size,
            created=self._context.clock.now(),
            peer=body.sender,
        )

    async def _park(self, tx: WriteTransaction, event_id: str, body: PeerMessage) -> None:
        count, size = await tx.parked_size(body.sender)
        if count >= PARKED_MESSAGES_MAX or size + len(body.message) > PARKED_BYTES_MAX:
            full = Exhausted("FF19403", body.sender, size)
            self._context.refuse(body.sender, event_id, full)
            return
        parked = ParkedMessage(event_id, body.sender, body.recipient, body.message, body.received)
        await tx.park_messages([parked])

    async def _accept(self, tx: WriteTransaction, body: PeerMessage, senders: _Sender) -> str:
        """Stores a batch; gives its manifest, also when it was here already.

        Raises:
            UnknownSenderError: the sender is no known node yet.
            Rejected: it can never be taken.
        """
        wire, group = self._read(body)
        node = await senders.node(tx, body.sender)
        if wire.batch.node != node.base.id:
            raise Rejected("FF19400", f"batch of node '{wire.batch.node}'")
        await self._check_author(tx, wire, node, senders)
        if wire.batch.tx.type is TransactionType.UNPINNED:
            senders.decided.extend(await self._confirm_unpinned(tx, wire, group, node))
        else:
            await self._store_pinned(tx, wire)
        return wire.batch.manifest

    def _read(self, body: PeerMessage) -> tuple[WireBatch, Group | None]:
        """Reads and verifies a wrapper; whatever that does is the sender's fault.

        Raises:
            Rejected: it is none, or not what its hashes say.
        """
        if len(body.message) > PEER_MESSAGE_BYTES_MAX:
            raise Rejected("FF19400", f"longer than {PEER_MESSAGE_BYTES_MAX:,} characters")
        try:
            wire, group = decode_wrapper(body.message, self._context.namespace)
            verify_payload(wire)
            if group is not None and not is_storable_group(group):
                raise Rejected("FF19400", "its group cannot be stored")
        except PhotinusError:
            raise
        except Exception as failure:
            raise Rejected("FF19400", type(failure).__name__) from failure
        if wire.network_namespace != self._context.network_name:
            raise Rejected("FF19400", f"batch for namespace '{wire.network_namespace}'")
        if wire.batch.type is not BatchType.PRIVATE:
            raise Rejected("FF19400", f"batch of type '{wire.batch.type}'")
        return wire, group

    async def _check_author(
        self, tx: WriteTransaction, wire: WireBatch, node: Identity, senders: _Sender
    ) -> None:
        """The author must belong to the organisation of the sending node.

        A pinned batch may come before its author is confirmed; the pin's signer then proves it.
        """
        pinned = wire.batch.tx.type is not TransactionType.UNPINNED
        for did in {message.header.author for message in wire.messages}:
            author = await senders.author(tx, did)
            if author is None:
                if pinned:
                    continue
                raise Rejected("FF10277", did)
            if not await senders.is_within(tx, author, node.base.parent):
                raise Rejected("FF10409", "batch", wire.batch.id, did)

    async def _store_pinned(self, tx: WriteTransaction, wire: WireBatch) -> None:
        batch = wire.batch
        if not await tx.insert_received(batch, wire.messages, wire.data):
            return
        items = {(item.id, item.hash): item for item in wire.data}
        groups = introduced_groups(wire.messages, items)
        wakeups: list[Wakeup] = []
        if groups:
            await tx.insert_groups(groups)
            wakeups.extend(group_wakeup(group.hash) for group in groups)
        wakeups.append(batch_wakeup(batch.id, batch.hash))
        await tx.insert_wakeups(wakeups)

    async def _confirm_unpinned(
        self, tx: WriteTransaction, wire: WireBatch, group: Group | None, node: Identity
    ) -> list[Decided]:
        batch, context = wire.batch, self._context
        if defect := defect_of(batch, wire.messages, context.network_name):
            raise Rejected("FF19400", defect)
        if any(m.header.txtype is not TransactionType.UNPINNED for m in wire.messages):
            # Else a pinned message could be confirmed outside the agreed order.
            raise Rejected("FF19400", "a message that must be pinned")
        await self._check_group(tx, wire, group, node)
        now = context.clock.now()
        if not await tx.insert_received(batch, wire.messages, wire.data):
            return []
        transaction = Transaction(batch.tx.id, context.namespace, batch.tx.type, now)
        await tx.insert_transactions([transaction])
        items = {(item.id, item.hash): item for item in wire.data}
        decisions: list[Decision] = []
        events: list[NewEvent] = []
        for message in wire.messages:
            reason = await self._flaw_of_data(tx, message, items)
            state = MessageState.REJECTED if reason else MessageState.CONFIRMED
            decisions.append(Decision(message.header.id, message.hash, state, now, reason))
            events.extend(message_events(message, state, now, batch.tx.id))
        await tx.decide(decisions)
        tx.append_events(events)
        return [
            Decided(message.header.type, decision.state is MessageState.CONFIRMED, None)
            for message, decision in zip(wire.messages, decisions, strict=True)
        ]

    async def _check_group(
        self, tx: WriteTransaction, wire: WireBatch, group: Group | None, node: Identity
    ) -> None:
        wanted = {message.header.group for message in wire.messages}
        (group_hash,) = wanted if len(wanted) == 1 else (None,)
        if group_hash is None:
            raise Rejected("FF10226", "")
        if group is None or group.hash != group_hash:
            group = (await tx.groups([group_hash])).get(group_hash)
            if group is None:
                raise Rejected("FF10226", group_hash)
        author = wire.messages[0].header.author
        if (author, node.base.id) not in {(m.identity, m.node) for m in group.members}:
            raise Rejected("FF19402", author, group_hash)
        own = await tx.identity_by_name(IdentityType.NODE, self._own_node)
        if own is None or own.base.id not in {m.node for m in group.members}:
            raise Rejected("FF19402", self._own_node, group_hash)
        await tx.insert_groups([group])

    async def _flaw_of_data(
        self,
        tx: WriteTransaction,
        message: Message,
        items: Mapping[tuple[Uuid, Hash32], Data],
    ) -> str:
        for ref in message.data:
            item = items[ref.id, ref.hash]
            if item.datatype is None or item.validator is not Validator.JSON:
                continue
            name = f"{item.datatype.name}/{item.datatype.version}"
            datatype = await tx.datatype(item.datatype.name, item.datatype.version)
            if datatype is None:
                return str(Rejected("FF10195", name))
            check = partial(self._schemas.check, datatype, item.value or "null")
            try:
                guarded(name, check)
            except PhotinusError as failure:
                return str(failure)
        return ""
