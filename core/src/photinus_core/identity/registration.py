"""Registers identities: this member's organisation and node, child organisations, custom ones.

In a multiparty namespace a registration is one or two definition messages; the identity exists once
agreement has confirmed them on every member. In a gateway namespace it is a row, made at once.

A child is claimed with its own key and verified with its parent's, so this member must hold both. A
node is claimed with its parent's key; its profile is what the data exchange says of itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from photinus_core.definitions import rules
from photinus_core.definitions.effects import DEFINITION_EVENT_TOPIC
from photinus_core.definitions.payloads import (
    IdentityClaim,
    IdentityUpdate,
    IdentityVerification,
    encode_claim,
    encode_update,
    encode_verification,
    normalize_profile,
    profile_member,
)
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.model import canonical, names
from photinus_core.model.errors import Conflict, NotFound, Rejected
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Namespace, Uuid, is_uuid, new_uuid
from photinus_core.model.messages import Message, SystemTag
from photinus_core.model.network import (
    Identity,
    IdentityBase,
    IdentityType,
    Verifier,
    VerifierType,
)
from photinus_core.ports.clock import Clock
from photinus_core.ports.connectors import DataExchange, ResolvedKey
from photinus_core.ports.definitions import DefinitionSender
from photinus_core.ports.store import Store, WriteTransaction

DEFAULT_TYPE: Final = IdentityType.CUSTOM


@dataclass(frozen=True, slots=True)
class IdentityInput:
    """What a caller gives to register an identity.

    Attributes:
        name: Its name.
        type: `org` or `custom`; empty means custom.
        parent: UUID or DID; empty for none (root organisations only).
        key: Signing key as the caller wrote it.
        description: For people.
        profile: JSON object text; empty for none.
    """

    name: str
    type: str = ""
    parent: str = ""
    key: str = ""
    description: str = ""
    profile: str = ""


@dataclass(frozen=True, slots=True)
class OwnMember:
    """This member as the namespace is configured; `network_name` is the namespace's on the wire."""

    network_name: str
    org_name: str = ""
    org_description: str = ""
    node_name: str = ""
    node_description: str = ""


@dataclass(frozen=True, slots=True)
class Registering:
    """A registration under way, or done.

    Attributes:
        identity: The identity as it will be (gateway: as it is).
        messages: The definition messages sent for it; empty in a gateway namespace.
        event: What the event log will say when it has taken effect.
    """

    identity: Identity
    messages: tuple[Message, ...]
    event: EventType = EventType.IDENTITY_CONFIRMED


@dataclass(frozen=True, slots=True)
class NetworkAccess:
    """What a multiparty namespace registers through."""

    sender: DefinitionSender
    exchange: DataExchange


class IdentityRegistration:
    """Registers and updates identities of one namespace.

    Args:
        network: None in a gateway namespace, where rows are written instead of messages.
    """

    def __init__(
        self,
        store: Store,
        namespace: Namespace,
        clock: Clock,
        resolver: IdentityResolver,
        own: OwnMember,
        network: NetworkAccess | None,
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._resolver = resolver
        self._own = own
        self._network = network

    async def register_own_org(self) -> Registering:
        """Claims the organisation named in the configuration, as a root.

        Raises:
            Rejected: FF10414 in a gateway namespace; FF10216 it is not configured; FF00140 its
                name.
        """
        if self._network is None:
            raise Rejected("FF10414")
        if not self._own.org_name:
            raise Rejected("FF10216")
        key = await self._resolver.org_key()
        base = self._base(IdentityType.ORG, self._own.org_name, None)
        return await self._claim(base, key, self._own.org_description, "", None)

    async def register_own_node(self) -> Registering:
        """Claims the node named in the configuration for its organisation.

        Raises:
            Rejected: FF10414 in a gateway namespace; FF10216 it is not configured.
            NotFound: FF10277, the organisation is not registered yet.
            Unavailable: the data exchange is away.
        """
        if self._network is None:
            raise Rejected("FF10414")
        if not self._own.node_name or self._resolver.root_did is None:
            raise Rejected("FF10216")
        parent = await self._resolver.by_did(self._resolver.root_did)
        if parent is None:
            raise NotFound("FF10277", self._resolver.root_did)
        endpoint = await self._network.exchange.endpoint(self._own.node_name)
        profile = normalize_profile(endpoint.peer_json)
        if not profile_member(profile, "id"):
            raise Rejected("FF10367")
        base = self._base(IdentityType.NODE, self._own.node_name, parent)
        claim = IdentityClaim(base, self._own.node_description, profile)
        message = await self._send(
            base,
            SystemTag.IDENTITY_CLAIM,
            encode_claim(claim),
            parent.did,
            await self._key_of(parent),
        )
        return self._registering(claim, (message,))

    async def register(self, wanted: IdentityInput) -> Registering:
        """Registers an organisation or a custom identity.

        Raises:
            Rejected: FF00140 or FF00141 name, FF00126 type, FF00124 no parent, FF10365 a parent of
                the wrong type, FF10352 no key, FF10353 the parent's key is unknown, FF00127
                profile.
            NotFound: FF10277, there is no such parent.
            Conflict: FF10407, taken (gateway only; elsewhere agreement decides).
        """
        kind = self._type(wanted.type)
        names.check_name_not_uuid(wanted.name, "name")
        names.check_text(wanted.description, "description", names.DESCRIPTION_CHARS_MAX)
        profile = normalize_profile(wanted.profile)
        parent = await self._parent(wanted.parent)
        base = self._base(kind, wanted.name, parent)
        rules.check_base(base, self._own.network_name)
        if parent is not None:
            rules.check_parent(base, parent)
        if self._network is None:
            key = await self._resolver.resolve_key(wanted.key) if wanted.key else None
            return await self._store_locally(IdentityClaim(base, wanted.description, profile), key)
        if not wanted.key:
            raise Rejected("FF10352")
        own_key = await self._resolver.resolve_key(wanted.key)
        return await self._claim(base, own_key, wanted.description, profile, parent)

    async def update(self, identity_id: Uuid, description: str, profile: str | None) -> Registering:
        """Replaces description and profile of an identity; the old profile's `id` is carried over.

        Raises:
            NotFound: FF10143, there is no such identity.
            Rejected: FF10480 no profile, FF00127 it is no JSON object, FF10353 no key to sign with.
        """
        async with self._store.read(self._namespace) as reader:
            identity = await reader.identity(identity_id)
        if identity is None:
            raise NotFound("FF10143")
        if profile is None:
            raise Rejected("FF10480")
        names.check_text(description, "description", names.DESCRIPTION_CHARS_MAX)
        new_profile = normalize_profile(profile, id=profile_member(identity.profile, "id"))
        changed = msgspec.structs.replace(
            identity, description=description, profile=new_profile, updated=self._clock.now()
        )
        if self._network is None:
            async with self._store.write(self._namespace) as tx:
                await tx.upsert_identity(changed)
                self._append(tx, EventType.IDENTITY_UPDATED, changed)
            return Registering(changed, (), EventType.IDENTITY_UPDATED)
        author = await self._author_of_update(identity.base)
        payload = encode_update(
            IdentityUpdate(identity.base, description, new_profile), self._own.network_name
        )
        message = await self._send(
            identity.base,
            SystemTag.IDENTITY_UPDATE,
            payload,
            author.did,
            await self._key_of(author),
        )
        return Registering(changed, (message,), EventType.IDENTITY_UPDATED)

    async def _claim(
        self,
        base: IdentityBase,
        key: ResolvedKey,
        description: str,
        profile: str,
        parent: IdentityBase | None,
    ) -> Registering:
        rules.check_base(base, self._own.network_name)
        # The parent's key is looked up before anything is sent: half a registration helps nobody.
        parent_key = "" if parent is None else await self._key_of(parent)
        claim = IdentityClaim(base, description, profile)
        claimed = await self._send(
            base, SystemTag.IDENTITY_CLAIM, encode_claim(claim), base.did, key.key
        )
        if parent is None:
            return self._registering(claim, (claimed,))
        verification = IdentityVerification(claimed.header.id, claimed.hash, base)
        verified = await self._send(
            base,
            SystemTag.IDENTITY_VERIFICATION,
            encode_verification(verification),
            parent.did,
            parent_key,
        )
        return self._registering(claim, (claimed, verified))

    async def _send(
        self, base: IdentityBase, tag: SystemTag, payload: str, author: str, key: str
    ) -> Message:
        if self._network is None:
            raise Rejected("FF10414")
        topic = canonical.identity_topic(base.did)
        return await self._network.sender.send_definition(topic, tag, payload, author, key)

    def _registering(self, claim: IdentityClaim, messages: tuple[Message, ...]) -> Registering:
        now = self._clock.now()
        identity = Identity(
            base=claim.base,
            namespace=self._namespace,
            created=now,
            updated=now,
            description=claim.description,
            profile=claim.profile,
            claim=messages[0].header.id,
            verification=messages[1].header.id if len(messages) > 1 else None,
        )
        return Registering(identity, messages)

    async def _store_locally(self, claim: IdentityClaim, key: ResolvedKey | None) -> Registering:
        now = self._clock.now()
        base = msgspec.structs.replace(claim.base, namespace=self._namespace)
        identity = Identity(
            base=base,
            namespace=self._namespace,
            created=now,
            updated=now,
            description=claim.description,
            profile=claim.profile,
        )
        async with self._store.write(self._namespace) as tx:
            existing = await tx.identity_by_did(base.did)
            if existing is not None:
                raise Conflict("FF10407", "identity claim", base.id, existing.base.id)
            if key is not None:
                await self._store_key(tx, identity, key)
            await tx.upsert_identity(identity)
            self._append(tx, EventType.IDENTITY_CONFIRMED, identity)
        return Registering(identity, ())

    async def _store_key(self, tx: WriteTransaction, identity: Identity, key: ResolvedKey) -> None:
        kind = VerifierType(key.verifier_type)
        owner = await tx.verifier(kind, key.key)
        if owner is not None:
            raise Conflict("FF10407", "identity claim", identity.base.id, owner.identity)
        verifier = Verifier(
            hash=canonical.verifier_hash(self._namespace, kind, key.key),
            identity=identity.base.id,
            namespace=self._namespace,
            type=kind,
            value=key.key,
            created=identity.created,
        )
        await tx.insert_verifiers([verifier])

    def _append(self, tx: WriteTransaction, kind: EventType, identity: Identity) -> None:
        event = NewEvent(
            id=new_uuid(),
            type=kind,
            namespace=self._namespace,
            reference=identity.base.id,
            created=identity.updated,
            topic=DEFINITION_EVENT_TOPIC,
        )
        tx.append_events([event])

    def _base(self, kind: IdentityType, name: str, parent: IdentityBase | None) -> IdentityBase:
        return IdentityBase(
            id=new_uuid(),
            did=rules.did_of(kind, name),
            type=kind,
            namespace="",
            name=name,
            parent=None if parent is None else parent.id,
        )

    @staticmethod
    def _type(text: str) -> IdentityType:
        if not text:
            return DEFAULT_TYPE
        if text not in (IdentityType.ORG, IdentityType.CUSTOM):
            raise Rejected("FF00126", text)
        return IdentityType(text)

    async def _parent(self, text: str) -> IdentityBase | None:
        if not text:
            return None
        if is_uuid(text):
            found = await self._resolver.by_id(Uuid(text.lower()))
        else:
            found = await self._resolver.by_did(text)
        if found is None:
            raise NotFound("FF10277", text)
        return found

    async def _author_of_update(self, base: IdentityBase) -> IdentityBase:
        if base.type is not IdentityType.NODE or base.parent is None:
            return base
        parent = await self._resolver.by_id(base.parent)
        if parent is None:
            raise NotFound("FF10277", base.parent)
        return parent

    async def _key_of(self, identity: IdentityBase) -> str:
        async with self._store.read(self._namespace) as reader:
            verifiers = (await reader.verifiers_of([identity.id])).get(identity.id, [])
        for verifier in verifiers:
            if verifier.type is not VerifierType.DX_PEER_ID:
                return (await self._resolver.resolve_key(verifier.value)).key
        raise Rejected("FF10353", "blockchain", identity.did)
