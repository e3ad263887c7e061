"""Takes messages from callers.

Resolves, validates, seals and stores them, durably before it answers.

What follows (batching, sending, pinning) is the leader's work and begins with the notification of
the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from photinus_core.data.inputs import DataInput, ResolvedData
from photinus_core.data.service import DataService
from photinus_core.identity.resolution import IdentityResolver, Signer
from photinus_core.messaging.groups import GroupResolver
from photinus_core.messaging.inputs import MessageInput
from photinus_core.messaging.seal import Draft, seal_message
from photinus_core.model import wire
from photinus_core.model.errors import Conflict, Rejected
from photinus_core.model.ids import Uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import Group, Message, MessageType, SystemTag, Validator
from photinus_core.model.names import check_idempotency_key, check_tag, check_topics
from photinus_core.ports import tracing
from photinus_core.ports.group_commit import GroupCommit
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import MessageWrite
from photinus_core.sequencing.batching import COLLECT_MAX_NS, estimated_bytes


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large batches may be, how many may be on their way, and for how long they collect.

    Attributes:
        broadcast_bytes_max: Payload of a broadcast batch in estimated bytes.
        private_bytes_max: The same of a private one.
        broadcast_messages_max: Messages in a broadcast batch.
        private_messages_max: Messages in a private one.
        broadcast_collect_max_ns: Longest time for which broadcasts are collected while the batch
            before is on its way, and again while its senders come back; an idle pipe never waits.
        private_collect_max_ns: The same for private messages.
        in_flight_max: Batches of one processor between seal and finish.
    """

    broadcast_bytes_max: int = 800 * 1024
    private_bytes_max: int = 800 * 1024
    broadcast_messages_max: int = 200
    private_messages_max: int = 200
    broadcast_collect_max_ns: int = COLLECT_MAX_NS
    private_collect_max_ns: int = COLLECT_MAX_NS
    in_flight_max: int = 4


KIB: Final = 1024


class MessageSender:
    """Sends messages of one multiparty namespace."""

    def __init__(
        self,
        scope: Scope,
        identities: IdentityResolver,
        data: DataService,
        groups: GroupResolver,
        limits: BatchLimits,
    ) -> None:
        self._store = scope.store
        self._namespace = scope.namespace
        self._network_name = scope.network_name
        self._clock = scope.clock
        self._meter = scope.meter
        self._identities = identities
        self._data = data
        self._groups = groups
        self._limits = limits
        self._writes = GroupCommit(self._commit, f"messages of {scope.namespace}")

    async def broadcast(self, message: MessageInput) -> Message:
        """Sends a message to every member. Durable when it returns; confirmed later.

        Raises:
            Rejected: what is wrong with it; nothing was stored.
            Conflict: FF10430, the idempotency key is taken.
        """
        self._check_header(message)
        if message.txtype not in ("", TransactionType.BATCH_PIN):
            raise Rejected(
                "FF19002",
                "header.txtype",
                f"'{message.txtype}' is not possible for this kind of message",
            )
        if message.group is not None or message.group_hash is not None:
            raise Rejected("FF19406")
        signer = await self._identities.resolve_signer(message.author, message.key)
        resolved = await self._data.resolve(message.data)
        self._check_size(resolved, self._limits.broadcast_bytes_max, "FF10327")
        draft = self._draft(message, MessageType.BROADCAST, TransactionType.BATCH_PIN, signer)
        return await self._store_sealed(draft, resolved)

    async def private(self, message: MessageInput) -> Message:
        """Sends a message to a group. Durable when it returns; confirmed later.

        Raises:
            Rejected: what is wrong with it; nothing was stored.
            NotFound: FF10226 unknown group, FF10277 unknown member.
            Conflict: FF10430, the idempotency key is taken.
        """
        self._check_header(message)
        if message.txtype not in ("", TransactionType.BATCH_PIN, TransactionType.UNPINNED):
            raise Rejected(
                "FF19002",
                "header.txtype",
                f"'{message.txtype}' is not possible for this kind of message",
            )
        txtype = TransactionType(message.txtype or TransactionType.BATCH_PIN)
        # A pin by a key nobody registered never counts (sequencing.agreement): refuse it here.
        unpinned = txtype is TransactionType.UNPINNED
        signer = await self._identities.resolve_signer(
            message.author, message.key, unregistered_key_ok=unpinned
        )
        group, is_new = await self._group_of(message)
        if all(m.identity != signer.author for m in group.members):
            raise Rejected("FF19402", signer.author, group.hash)
        resolved = await self._data.resolve(message.data)
        self._check_size(resolved, self._limits.private_bytes_max, "FF10328")
        if is_new:
            await self._introduce(group, signer)
        draft = self._draft(message, MessageType.PRIVATE, txtype, signer, group)
        return await self._store_sealed(draft, resolved)

    async def request(self, message: MessageInput) -> Message:
        """Sends a private message that asks for a reply. As `private`.

        Raises:
            Rejected: FF10261 it has no tag, FF10262 it is a reply itself, FF10271 it has no group.
        """
        if not message.tag:
            raise Rejected("FF10261")
        if message.cid is not None:
            raise Rejected("FF10262")
        if message.group is None and message.group_hash is None:
            raise Rejected("FF10271")
        return await self.private(message)

    async def send_definition(
        self, topic: str, tag: SystemTag, payload_json: str, author: str, key: str
    ) -> Message:
        """Broadcasts a definition.

        Author and key are taken as they are: the caller has resolved them.
        """
        item = DataInput(value=payload_json, validator=Validator.DEFINITION)
        resolved = await self._data.resolve([item])
        self._check_size(resolved, self._limits.broadcast_bytes_max, "FF10327")
        draft = Draft(
            type=MessageType.DEFINITION,
            txtype=TransactionType.BATCH_PIN,
            author=author,
            key=key,
            topics=(topic,),
            tag=tag,
        )
        return await self._store_sealed(draft, resolved)

    def _check_header(self, message: MessageInput) -> None:
        if message.tag:
            check_tag(message.tag)
        check_topics(message.topics)
        check_idempotency_key(message.idempotency_key)

    @staticmethod
    def _check_size(data: ResolvedData, limit: int, code: str) -> None:
        size = estimated_bytes(d.value_size for d in data.all)
        if size > limit:
            raise Rejected(code, size / KIB, limit / KIB)

    @staticmethod
    def _draft(
        message: MessageInput,
        kind: MessageType,
        txtype: TransactionType,
        signer: Signer,
        group: Group | None = None,
    ) -> Draft:
        return Draft(
            type=kind,
            txtype=txtype,
            author=signer.author,
            key=signer.key,
            topics=message.topics,
            tag=message.tag,
            cid=message.cid,
            group=None if group is None else group.hash,
            idempotency_key=message.idempotency_key,
        )

    async def _group_of(self, message: MessageInput) -> tuple[Group, bool]:
        if message.group is not None:
            found = await self._groups.resolve(message.group, self._clock.now())
            return found.group, found.is_new
        if message.group_hash is None:
            raise Rejected("FF00115")
        return await self._groups.by_hash(message.group_hash), False

    async def _introduce(self, group: Group, signer: Signer) -> None:
        """Stores a new group and the message that tells its members, if nobody was faster."""
        item = await self._data.make_value(
            DataInput(value=wire.encode_group(group), validator=Validator.DEFINITION)
        )
        draft = Draft(
            type=MessageType.GROUP_INIT,
            txtype=TransactionType.BATCH_PIN,
            author=signer.author,
            key=signer.key,
            topics=(group.hash,),
            tag=SystemTag.DEFINE_GROUP,
            group=group.hash,
        )
        resolved = ResolvedData(all=(item,), new=(item,))
        message = self._seal(draft, resolved)
        async with self._store.write(self._namespace) as tx:
            if not await tx.groups([group.hash]):
                await tx.insert_groups([msgspec.structs.replace(group, message=message.header.id)])
                await tx.insert_messages([MessageWrite(message, (item,))])
        self._groups.remember(group)

    def _seal(self, draft: Draft, data: ResolvedData) -> Message:
        refs = data.refs or tuple(wire.data_ref(d) for d in data.all)
        return seal_message(draft, refs, self._namespace, self._network_name, self._clock.now())

    async def _store_sealed(self, draft: Draft, data: ResolvedData) -> Message:
        message = self._seal(draft, data)
        existing = await self._writes.submit(MessageWrite(message, data.new))
        if existing is not None:
            raise Conflict("FF10430", draft.idempotency_key, existing)
        tracing.tracer().message(message.header.id)
        return message

    async def aclose(self) -> None:
        """Waits for writes under way; later ones are refused."""
        await self._writes.aclose()

    async def _commit(self, writes: Sequence[MessageWrite]) -> list[Uuid | None]:
        async with self._store.write(self._namespace) as tx:
            taken = list(await tx.insert_messages(writes))
        self._meter.submitted(
            Counter(
                write.message.header.type
                for write, existing in zip(writes, taken, strict=True)
                if existing is None
            )
        )
        return taken
