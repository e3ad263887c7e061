"""Turns what a caller wrote about author and key into the identity that signs.

The rules are FireFly's (internals 6.5).

Look-ups that found something are remembered without end: the immutable part of an identity and the
owner of a verifier never change once confirmed (the first wins), so a remembered answer cannot
become wrong. Misses are asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from photinus_core.model.errors import NotFound, Rejected, Unavailable
from photinus_core.model.ids import Did, Namespace, Uuid, is_uuid
from photinus_core.model.network import IdentityBase, IdentityType, Verifier, VerifierType
from photinus_core.ports.connectors import Blockchain, ConnectorFailure, KeyIntent, ResolvedKey
from photinus_core.ports.store import Reader, Store

ORG_PREFIX: Final = "did:firefly:org/"
NODE_PREFIX: Final = "did:firefly:node/"
CUSTOM_PREFIX: Final = "did:firefly:"
_UNUSABLE: Final = frozenset({"INVALID_KEY", "UNKNOWN_KEY"})
_VERIFIER_TYPES: Final = frozenset(map(str, VerifierType))
KEY_CACHE_MAX: Final = 10_000
"""Most remembered keys and identities; beyond it the memory begins anew."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: a DID, and the key in the ledger's canonical form."""

    author: Did
    key: str


class IdentityResolver:
    """Resolves authors, keys and members of one namespace."""

    def __init__(
        self,
        store: Store,
        namespace: Namespace,
        blockchain: Blockchain | None,
        *,
        org_name: str = "",
        org_key: str = "",
        default_key: str = "",
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._blockchain = blockchain
        self.root_did: Final = Did(ORG_PREFIX + org_name) if org_name else None
        self._default_key = default_key or org_key
        self._org_key = org_key or default_key
        self._keys: dict[tuple[str, KeyIntent], ResolvedKey] = {}
        self._by_did: dict[str, IdentityBase] = {}
        self._by_id: dict[Uuid, IdentityBase] = {}
        self._by_verifier: dict[tuple[VerifierType, str], Uuid] = {}
        self._first_node: dict[Uuid, IdentityBase] = {}
        self._peers: dict[Uuid, str] = {}

    async def resolve_key(self, key: str, intent: KeyIntent = KeyIntent.SIGN) -> ResolvedKey:
        """Gives the canonical form of a key; empty stands for the namespace's default.

        Raises:
            Rejected: FF10354, there is neither a key nor a ledger that knows a default; FF19015, the
                ledger's connector cannot use it: malformed, or to sign with and not held there.
            Unavailable: the ledger's connector is away, or answers nonsense.
        """
        wanted = key or self._default_key
        known = self._keys.get((wanted, intent))
        if known is not None:
            return known
        if self._blockchain is None:
            raise Rejected("FF10354")
        try:
            resolved = await self._blockchain.resolve_key(wanted, intent)
        except ConnectorFailure as failure:
            if failure.reason in _UNUSABLE:
                text = str(failure)
                own = Rejected(text.partition(":")[0])
                if str(own) == text:  # the connector speaks FireFly's codes
                    raise own from failure
                raise Rejected("FF19015", wanted, text) from failure
            raise
        if resolved.verifier_type not in _VERIFIER_TYPES:
            wrong = f"it resolves keys to the unknown type '{resolved.verifier_type}'"
            raise Unavailable("FF19202", "blockchain", wrong)
        if len(self._keys) >= KEY_CACHE_MAX:
            self._keys.clear()
        self._keys[wanted, intent] = resolved
        return resolved

    async def org_key(self) -> ResolvedKey:
        """The key of the root organisation."""
        return await self.resolve_key(self._org_key)

    async def resolve_signer(
        self, author: str, key: str, *, unregistered_key_ok: bool = False
    ) -> Signer:
        """Finds who signs, from what the caller gave of author and key.

        Args:
            author: DID, organisation name or empty.
            key: Key as the caller wrote it, or empty.
            unregistered_key_ok: Whether a key nobody registered may go with a known author (private
                messages).

        Raises:
            Rejected: FF10206 with the cause.
        """
        try:
            if not author and not key:
                return await self._root_signer()
            if not key:
                return await self._signer_of_author(author)
            resolved = await self.resolve_key(key)
            owner = await self.owner_of_key(resolved)
            if owner is None:
                return await self._unregistered(author, resolved, ok=unregistered_key_ok)
            if author and author not in (owner.did, owner.name, f"{ORG_PREFIX}{owner.id}"):
                raise Rejected("FF10355", resolved.key, author, owner.did)
            return Signer(owner.did, resolved.key)
        except (Rejected, NotFound) as failure:
            raise Rejected("FF10206", str(failure)) from failure

    async def _root_signer(self) -> Signer:
        if self.root_did is None:
            raise Rejected("FF10354")
        identity = await self.by_did(self.root_did)
        if identity is None:
            raise NotFound("FF10277", self.root_did)
        resolved = await self.resolve_key("")
        owner = await self.owner_of_key(resolved)
        if owner is not None and owner.did != identity.did:
            raise Rejected("FF10355", resolved.key, identity.did, owner.did)
        return Signer(identity.did, resolved.key)

    async def _signer_of_author(self, author: str) -> Signer:
        identity = await self.member(author)
        async with self._store.read(self._namespace) as reader:
            verifiers = (await reader.verifiers_of([identity.id])).get(identity.id, [])
        for verifier in verifiers:
            if verifier.type is not VerifierType.DX_PEER_ID:
                # Another member's key is known here but not held: what it should sign would wait
                # for ever.
                return Signer(identity.did, (await self.resolve_key(verifier.value)).key)
        raise Rejected("FF10353", "chain", identity.did)

    async def _unregistered(self, author: str, key: ResolvedKey, *, ok: bool) -> Signer:
        if not author:
            raise Rejected("FF10356", key.key)
        identity = await self.member(author)
        if not ok:
            raise Rejected("FF10356", key.key)
        return Signer(identity.did, key.key)

    async def owner_of_key(self, key: ResolvedKey) -> IdentityBase | None:
        """Finds the identity that registered a key."""
        kind = VerifierType(key.verifier_type)
        known = self._by_verifier.get((kind, key.key))
        if known is None:
            async with self._store.read(self._namespace) as reader:
                verifier = await reader.verifier(kind, key.key)
            if verifier is None:
                return None
            known = self._remember_verifier(verifier)
        return await self.by_id(known)

    async def member(self, name_or_did: str) -> IdentityBase:
        """Finds a member by organisation name, DID, or `did:firefly:org/<uuid>`.

        Raises:
            NotFound: FF10277, nobody has that name.
        """
        did = name_or_did if name_or_did.startswith("did:") else ORG_PREFIX + name_or_did
        identity = await self.by_did(did)
        if identity is None and did.startswith(ORG_PREFIX) and is_uuid(did[len(ORG_PREFIX) :]):
            identity = await self.by_id(Uuid(did[len(ORG_PREFIX) :].lower()))
        if identity is None:
            raise NotFound("FF10277", name_or_did)
        return identity

    async def by_did(self, did: str) -> IdentityBase | None:
        """Finds an identity by DID."""
        known = self._by_did.get(did)
        if known is not None:
            return known
        async with self._store.read(self._namespace) as reader:
            return await self._load_did(reader, did)

    async def by_id(self, identity: Uuid) -> IdentityBase | None:
        """Finds an identity by id."""
        known = self._by_id.get(identity)
        if known is not None:
            return known
        async with self._store.read(self._namespace) as reader:
            row = await reader.identity(identity)
        return None if row is None else self._remember(row.base)

    async def _load_did(self, reader: Reader, did: str) -> IdentityBase | None:
        row = await reader.identity_by_did(did)
        if row is None:
            return None
        return self._remember(row.base)

    async def is_within(self, identity: IdentityBase, ancestor: Uuid) -> bool:
        """Tells whether an identity is the ancestor itself or descends from it."""
        seen: set[Uuid] = set()
        current: IdentityBase | None = identity
        while current is not None and current.id not in seen:
            if current.id == ancestor:
                return True
            seen.add(current.id)
            current = None if current.parent is None else await self.by_id(current.parent)
        return False

    async def nodes(self) -> list[IdentityBase]:
        """All nodes, oldest first."""
        async with self._store.read(self._namespace) as reader:
            rows = await reader.identities(IdentityType.NODE)
        return [self._remember(row.base) for row in rows]

    async def node_for(self, member: IdentityBase) -> IdentityBase:
        """The first node of a member, or of the nearest ancestor that has one.

        Raises:
            Rejected: FF10233, none of them has a node.
        """
        remembered = self._first_node.get(member.id)
        if remembered is not None:
            return remembered
        nodes = await self.nodes()
        current: IdentityBase | None = member
        seen: set[Uuid] = set()
        while current is not None and current.id not in seen:
            node = next((n for n in nodes if n.parent == current.id), None)
            if node is not None:
                if current is member:  # An ancestor's serves until the member has one of its own.
                    self._first_node[member.id] = node
                return node
            seen.add(current.id)
            current = None if current.parent is None else await self.by_id(current.parent)
        raise Rejected("FF10233", member.did)

    async def node(self, name_or_did: str) -> IdentityBase:
        """Finds a node by DID, name or UUID.

        Raises:
            Rejected: FF10224, there is none.
        """
        if is_uuid(name_or_did):
            found = await self.by_id(Uuid(name_or_did.lower()))
        else:
            did = name_or_did if name_or_did.startswith("did:") else NODE_PREFIX + name_or_did
            found = await self.by_did(did)
        if found is None or found.type is not IdentityType.NODE:
            raise Rejected("FF10224", name_or_did)
        return found

    async def peer_of_node(self, node: Uuid) -> str | None:
        """Peer id of a node's data exchange."""
        known = self._peers.get(node)
        if known is None:
            async with self._store.read(self._namespace) as reader:
                verifiers = (await reader.verifiers_of([node])).get(node, [])
            known = next((v.value for v in verifiers if v.type is VerifierType.DX_PEER_ID), None)
            if known is not None:
                self._peers[node] = known
        return known

    def _remember(self, identity: IdentityBase) -> IdentityBase:
        if len(self._by_id) >= KEY_CACHE_MAX:
            self._by_id.clear()
            self._by_did.clear()
        self._by_id[identity.id] = identity
        self._by_did[identity.did] = identity
        return identity

    def _remember_verifier(self, verifier: Verifier) -> Uuid:
        if len(self._by_verifier) >= KEY_CACHE_MAX:
            self._by_verifier.clear()
        self._by_verifier[verifier.type, verifier.value] = verifier.identity
        return verifier.identity
