"""Which definitions are in effect, and what a message does to them: what agreement decides by.

Holds all identities, verifiers and datatypes of a namespace in memory, with the chain position at
which each took effect, and the claims and verifications that wait for each other. `judge` applies a
good definition to this memory at once (a later message of the same pass may build on it) and notes
the rows to write; the driver takes these `Effects` and commits them with the decisions. When that
commit fails the view is thrown away with the machine.

Rules, beyond FireFly's handlers: everything counts from the chain position at which it took effect;
a parent named by UUID is the author of the node's claim or of the child's verification; a child
takes effect at the later of the two; the first identity of a DID wins for ever, whatever other key
or base claims it later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from photinus_core.definitions import rules
from photinus_core.definitions.content import Content
from photinus_core.definitions.effects import (
    Effects,
    OpenClaim,
    OpenVerification,
    Statements,
)
from photinus_core.definitions.guard import guarded
from photinus_core.definitions.memory import DefinitionMemory
from photinus_core.definitions.payloads import (
    KINDS,
    DatatypeDefinition,
    IdentityClaim,
    IdentityUpdate,
    IdentityVerification,
    profile_member,
)
from photinus_core.model import canonical, names
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.events import EventType
from photinus_core.model.ids import INTEGER_MAX, Namespace, Nanoseconds, Uuid
from photinus_core.model.messages import MessageType, SystemTag, Validator
from photinus_core.model.network import (
    Datatype,
    Identity,
    IdentityBase,
    IdentityType,
    Verifier,
    VerifierType,
)
from photinus_core.model.wire import decode_group
from photinus_core.ports.definitions import SchemaCompile
from photinus_core.sequencing.facts import (
    DefinitionReference,
    KeyReference,
    MessageFacts,
    Reference,
)
from photinus_core.sequencing.position import Position
from photinus_core.sequencing.view import Candidate, Confirm, Registration, Reject, Verdict

PEER_ID_CHARS_MAX: Final = 512

SchemaCheck = Callable[[Datatype, str], None]
"""Checks a value against a datatype; raises Rejected when it does not fit."""


@dataclass(frozen=True, slots=True)
class ViewContext:
    """What a view needs beside the definitions.

    Attributes:
        namespace: Local name.
        network_name: Name on the wire.
        key_type: Kind of the chain's keys.
        check_value: Checks a value against a datatype.
        compile_schema: Checks a datatype's schema.
    """

    namespace: Namespace
    network_name: str
    key_type: VerifierType
    check_value: SchemaCheck
    compile_schema: SchemaCompile


class NamespaceDefinitions:
    """The definitions of one namespace; implements `sequencing.view.DefinitionView`."""

    def __init__(
        self,
        context: ViewContext,
        identities: Iterable[Identity] = (),
        verifiers: Iterable[Verifier] = (),
        datatypes: Iterable[Datatype] = (),
        statements: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._context = context
        self._memory = DefinitionMemory(
            context.namespace, context.key_type, {n: Uuid(i) for n, i in (aliases or {}).items()}
        )
        for identity in identities:
            self._memory.keep_identity(identity)
        for verifier in verifiers:
            self._memory.keep_verifier(verifier)
        for datatype in datatypes:
            self._memory.keep_datatype(datatype)
        for did, text in (statements or {}).items():
            self._memory.keep_statements(did, msgspec.json.decode(text, type=Statements))

    def begin(self, at: Nanoseconds) -> None:
        """Begins a pass: rows made from now on carry this time."""
        self._memory.at = at

    def take_effects(self) -> Effects:
        """Hands over what must be written since the last call."""
        return self._memory.take_effects()

    def nodes(self) -> list[Identity]:
        """All nodes in effect."""
        return [i for i in self._memory.by_did.values() if i.base.type is IdentityType.NODE]

    # What agreement asks.

    def registration(self, key: str) -> Registration | None:
        """Who owns a chain key."""
        owner = self._memory.owner_of(key)
        if owner is None:
            return None
        root = owner.base.type is IdentityType.ORG and owner.base.parent is None
        return Registration(owner.base.did, _position(owner), root)

    def open_claims(self, key: str) -> Collection[str]:
        """Contexts of identities that a key claimed and nobody verified yet."""
        return [rules.identity_context(did) for did in self._memory.claimed_by(key)]

    def effective_at(self, reference: DefinitionReference) -> Position | None:
        """Position at which a definition took effect."""
        if reference.kind == rules.DATATYPE_KIND:
            datatype = self._memory.datatypes.get(reference.name)
            return None if datatype is None else Position(*(datatype.position or ()))
        identity = self._memory.by_did.get(reference.name)
        return None if identity is None else _position(identity)

    def further_references(
        self, message: MessageFacts, position: Position
    ) -> Collection[Reference]:
        """A verification asks who owns the key of the claim it names."""
        del position
        definition = _content(message).definition
        if not isinstance(definition, IdentityVerification):
            return ()
        claim = self._memory.open_claim(definition)
        return () if claim is None else (KeyReference(claim.key),)

    def judge(self, candidate: Candidate) -> Verdict:
        """Judges a message whose turn it is and applies it when it is good."""
        content = _content(candidate.message)
        try:
            if content.tag is None:
                self._check_data(candidate, content)
            else:
                self._apply(candidate, content)
        except PhotinusError as refusal:
            return Reject(str(refusal))
        return Confirm()

    # Messages that define nothing.

    def _check_data(self, candidate: Candidate, content: Content) -> None:
        if content.message.header.type is MessageType.GROUP_INIT:
            self._check_group(content)
        for item in content.data:
            if item.datatype is None or item.validator is not Validator.JSON:
                continue
            name = f"{item.datatype.name}/{item.datatype.version}"
            datatype = self._memory.datatypes.get(name)
            reference = DefinitionReference(
                rules.DATATYPE_KIND, name, rules.datatype_context(item.datatype.name)
            )
            if datatype is None or candidate.resolved.get(reference) is None:
                raise Rejected("FF10195", name)
            check = partial(self._context.check_value, datatype, item.value or "null")
            guarded(name, check)

    def _check_group(self, content: Content) -> None:
        header = content.message.header
        if len(content.data) != 1 or header.tag != SystemTag.DEFINE_GROUP:
            raise Rejected("FF10400", "group", header.id)
        group = decode_group(content.data[0].value or "", self._context.namespace)
        if group.hash != header.group:
            raise Rejected("FF00119", group.hash, header.group)
        if header.author not in {member.identity for member in group.members}:
            raise Rejected("FF19402", header.author, group.hash)

    # Definitions.

    def _apply(self, candidate: Candidate, content: Content) -> None:
        match content.definition:
            case IdentityClaim() as claim:
                self._claim(candidate, content, claim)
            case IdentityVerification() as verification:
                self._verification(candidate, content, verification)
            case IdentityUpdate() as update:
                self._update(candidate, content, update)
            case DatatypeDefinition() as datatype:
                self._datatype(candidate, content, datatype)
            case Rejected() as refusal:
                raise refusal
            case None:
                raise Rejected("FF10413")

    def _claim(self, candidate: Candidate, content: Content, claim: IdentityClaim) -> None:
        base, header = claim.base, content.message.header
        rules.check_base(base, self._context.network_name)
        names.check_text(claim.description, "description", names.DESCRIPTION_CHARS_MAX)
        if base.type is IdentityType.NODE:
            self._check_is_parent(candidate, base, "identity claim", header.id)
            names.check_text(profile_member(claim.profile, "id"), "profile.id", PEER_ID_CHARS_MAX)
            if not profile_member(claim.profile, "id"):
                raise Rejected("FF10403", "identity claim", header.id, "its profile has no id")
        elif header.author != base.did:
            raise Rejected("FF10409", "identity claim", base.id, header.author)
        existing = self._existing(base, candidate.position)
        if existing is not None:
            if self._is_same(existing, base) and self._is_owner(existing, header.key, base):
                return
            raise Rejected("FF10407", "identity claim", base.id, existing.base.id)
        if base.type is not IdentityType.NODE and candidate.registered not in {None, base.did}:
            raise Rejected("FF10355", header.key, base.did, candidate.registered)
        made = OpenClaim(header.id, content.message.hash, claim, header.key, candidate.position[:])
        if base.parent is None or base.type is IdentityType.NODE:
            parent = header.author if base.type is IdentityType.NODE else ""
            self._take_effect(candidate.position, made, parent)
            return
        waiting = self._memory.waiting(base.did)
        for vouch in waiting.verifications:
            said = vouch.verification
            if (
                said.claim == header.id
                and said.claim_hash == content.message.hash
                and rules.same_base(said.base, base)
            ):
                self._take_effect(candidate.position, made, vouch.parent, vouch.message)
                return
        if all(known.message != header.id for known in waiting.claims):
            self._memory.set_waiting(
                base.did, Statements([*waiting.claims, made], waiting.verifications)
            )

    def _verification(
        self, candidate: Candidate, content: Content, verification: IdentityVerification
    ) -> None:
        base, header = verification.base, content.message.header
        kind = KINDS[SystemTag.IDENTITY_VERIFICATION]
        rules.check_base(base, self._context.network_name)
        if base.parent is None or base.type is IdentityType.NODE:
            raise Rejected("FF10403", kind, header.id, "only children are verified")
        self._check_is_parent(candidate, base, kind, header.id)
        existing = self._existing(base, candidate.position)
        if existing is not None:
            if self._is_same(existing, base) and existing.claim == verification.claim:
                return
            raise Rejected("FF10407", kind, base.id, existing.base.id)
        claim = self._memory.open_claim(verification)
        if claim is None:
            waiting = self._memory.waiting(base.did)
            vouch = OpenVerification(header.id, verification, header.author)
            self._memory.set_waiting(
                base.did, Statements(waiting.claims, [*waiting.verifications, vouch])
            )
            return
        if claim.hash != verification.claim_hash:
            raise Rejected("FF10410", kind, header.id, verification.claim_hash, claim.hash)
        if not rules.same_base(claim.claim.base, base):
            raise Rejected("FF10404", kind, header.id)
        if candidate.resolved.get(KeyReference(claim.key)) is not None:
            raise Rejected("FF10407", kind, base.id, self._memory.keys[claim.key].identity)
        self._take_effect(candidate.position, claim, header.author, header.id)

    def _update(self, candidate: Candidate, content: Content, update: IdentityUpdate) -> None:
        base, header = update.base, content.message.header
        kind = KINDS[SystemTag.IDENTITY_UPDATE]
        names.check_text(update.description, "description", names.DESCRIPTION_CHARS_MAX)
        identity = self._memory.by_did.get(base.did)
        if identity is None:
            raise Rejected("FF10408", kind, header.id, base.did)
        if not self._is_same(identity, base):
            raise Rejected("FF10404", kind, header.id)
        if base.type is IdentityType.NODE:
            self._check_is_parent(candidate, base, kind, header.id)
        elif header.author != base.did:
            raise Rejected("FF10409", kind, header.id, header.author)
        changed = msgspec.structs.replace(
            identity,
            description=update.description,
            profile=update.profile,
            update=header.id,
            updated=self._memory.at,
        )
        self._memory.add_identity(changed, EventType.IDENTITY_UPDATED)
        if base.type is IdentityType.NODE and changed.profile:
            self._memory.effects.peers[changed.base.id] = changed.profile

    def _datatype(
        self, candidate: Candidate, content: Content, definition: DatatypeDefinition
    ) -> None:
        kind, name = KINDS[SystemTag.DEFINE_DATATYPE], f"{definition.name}/{definition.version}"
        if definition.validator != Validator.JSON:
            raise Rejected("FF00108", definition.validator)
        names.check_name(definition.name, "name")
        names.check_name(definition.version, "version")
        if not 0 <= definition.created <= INTEGER_MAX:
            raise Rejected("FF00136", definition.created)
        if not definition.value:
            raise Rejected("FF00112", "value")
        computed = canonical.hash_text(definition.value)
        if computed != definition.hash:
            raise Rejected("FF10410", kind, definition.id, definition.hash, computed)
        existing = self._memory.datatypes.get(name)
        if existing is not None:
            raise Rejected("FF10407", kind, definition.id, existing.id)
        if definition.id in self._memory.said_versions(definition.name):
            raise Rejected("FF10407", kind, definition.id, definition.id)
        guarded(
            name,
            lambda: self._context.compile_schema(
                definition.name, definition.version, definition.value
            ),
        )
        datatype = Datatype(
            id=self._memory.datatype_id(definition.id, name),
            namespace=self._context.namespace,
            name=definition.name,
            version=definition.version,
            hash=definition.hash,
            created=definition.created,
            value=definition.value,
            message=content.message.header.id,
            position=candidate.position[:],
        )
        self._memory.add_datatype(datatype)

    # Checks and changes that several definitions share.

    def _check_is_parent(
        self, candidate: Candidate, base: IdentityBase, kind: str, message: Uuid
    ) -> None:
        parent = self._memory.by_did.get(candidate.registered or "")
        if parent is None or self._memory.said(parent).id != base.parent:
            raise Rejected("FF10409", kind, message, candidate.message.author)
        rules.check_parent(base, parent.base)

    def _is_same(self, identity: Identity, base: IdentityBase) -> bool:
        return rules.same_base(self._memory.said(identity), base)

    def _existing(self, base: IdentityBase, position: Position) -> Identity | None:
        """Who has the name, as of a position: the other DID's topic has an order of its own."""
        known = self._memory.by_did.get(base.did)
        if known is not None:
            return known
        other = self._memory.by_did.get(rules.other_did(base, self._context.network_name) or "")
        return other if other is not None and _position(other) < position else None

    def _is_owner(self, identity: Identity, key: str, base: IdentityBase) -> bool:
        if base.type is IdentityType.NODE:
            return True
        verifier = self._memory.keys.get(key)
        return verifier is not None and verifier.identity == identity.base.id

    def _take_effect(
        self, position: Position, claim: OpenClaim, parent: str, verification: Uuid | None = None
    ) -> None:
        said = claim.claim.base
        base = msgspec.structs.replace(
            said,
            id=self._memory.identity_id(said.id, said.did),
            namespace=self._context.namespace,
            parent=self._memory.by_did[parent].base.id if parent else None,
        )
        identity = Identity(
            base=base,
            namespace=self._context.namespace,
            created=self._memory.at,
            updated=self._memory.at,
            description=claim.claim.description,
            profile=claim.claim.profile,
            claim=claim.message,
            verification=verification,
            position=position[:],
        )
        self._memory.add_identity(identity, EventType.IDENTITY_CONFIRMED)
        kind, value = self._context.key_type, claim.key
        if base.type is IdentityType.NODE:
            kind, value = VerifierType.DX_PEER_ID, profile_member(identity.profile, "id")
            self._memory.effects.peers[base.id] = identity.profile
        verifier = Verifier(
            hash=canonical.verifier_hash(self._context.namespace, kind, value),
            identity=base.id,
            namespace=self._context.namespace,
            type=kind,
            value=value,
            created=self._memory.at,
            position=position[:],
        )
        self._memory.add_verifier(verifier)
        # The DID is taken: what else waited under it can never take effect.
        if self._memory.waiting(base.did) != Statements():
            self._memory.set_waiting(base.did, None)


def _content(message: MessageFacts) -> Content:
    assert isinstance(message.payload, Content)
    return message.payload


def _position(identity: Identity) -> Position:
    return Position(*(identity.position or ()))
