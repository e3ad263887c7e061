"""What is defined so far, in memory, and what must be written because of it.

Keeps no rules: `view` decides, this remembers. Identities are found by DID, keys by value,
datatypes by `<name>/<version>`; what was only claimed or only verified waits under its DID.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from photinus_core.definitions.effects import (
    DEFINITION_EVENT_TOPIC,
    Effects,
    OpenClaim,
    Statements,
)
from photinus_core.definitions.payloads import IdentityVerification
from photinus_core.model import canonical
from photinus_core.model.events import EventType, NewEvent
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.network import Datatype, Identity, IdentityBase, Verifier, VerifierType


class DefinitionMemory:
    """The definitions of one namespace, and the effects of the pass under way.

    Args:
        key_type: Kind of the chain's keys; verifiers of other kinds are not found by `key`.
        aliases: Ids that definitions named, where another definition had the id here already.
    """

    def __init__(
        self, namespace: Namespace, key_type: VerifierType, aliases: Mapping[str, Uuid]
    ) -> None:
        self._namespace = namespace
        self._key_type = key_type
        self._aliases = dict(aliases)
        self._did_of: dict[Uuid, str] = {}
        self._datatype_of: dict[Uuid, str] = {}
        self._statements: dict[str, Statements] = {}
        self._claimed_keys: dict[str, set[str]] = {}
        self.by_did: dict[str, Identity] = {}
        self.keys: dict[str, Verifier] = {}
        self.datatypes: dict[str, Datatype] = {}
        self.at = Nanoseconds(0)
        """Time that rows made now carry."""
        self.effects = Effects()

    def take_effects(self) -> Effects:
        """Hands over what must be written since the last call."""
        effects, self.effects = self.effects, Effects()
        return effects

    # Looking up

    def owner_of(self, key: str) -> Identity | None:
        """Who owns a chain key."""
        verifier = self.keys.get(key)
        return None if verifier is None else self.by_did[self._did_of[verifier.identity]]

    def waiting(self, did: str) -> Statements:
        """Claims and verifications that wait under a DID."""
        return self._statements.get(did, Statements())

    def claimed_by(self, key: str) -> list[str]:
        """DIDs that a key claimed and nobody verified."""
        return sorted(self._claimed_keys.get(key, ()))

    def open_claim(self, verification: IdentityVerification) -> OpenClaim | None:
        """The claim that a verification names, while it waits."""
        claims = self.waiting(verification.base.did).claims
        return next((c for c in claims if c.message == verification.claim), None)

    def said_versions(self, name: str) -> list[Uuid]:
        """Ids that the definitions of all versions of a datatype named."""
        return [
            self._aliases.get(key, datatype.id)
            for key, datatype in self.datatypes.items()
            if datatype.name == name
        ]

    def said(self, identity: Identity) -> IdentityBase:
        """An identity's base as its claim named it."""
        base, parent = identity.base, None
        if base.parent is not None:
            parent = self._aliases.get(self._did_of.get(base.parent, ""), base.parent)
        return msgspec.structs.replace(base, id=self._aliases.get(base.did, base.id), parent=parent)

    # Adding

    def identity_id(self, said: Uuid, did: str) -> Uuid:
        """The id under which an identity is kept here."""
        return self._local_id(said, did, self._did_of.get(said))

    def datatype_id(self, said: Uuid, name: str) -> Uuid:
        """The id under which a datatype is kept here."""
        return self._local_id(said, name, self._datatype_of.get(said))

    def _local_id(self, said: Uuid, name: str, taken_by: str | None) -> Uuid:
        """Ids are unique here, but may not decide.

        Definitions on different topics have no order, so the id that one names may be another's
        already (or belong to a hostile one).
        """
        if taken_by in {None, name}:
            return said
        self._aliases[name] = said
        self.effects.aliases[name] = said
        digest = canonical.hash_text(f"{name}/{said}")
        parts = (digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32])
        return Uuid("-".join(parts))

    def add_identity(self, identity: Identity, kind: EventType) -> None:
        """An identity took effect, or changed."""
        self.keep_identity(identity)
        self.effects.identities[identity.base.id] = identity
        self._event(kind, identity.base.id)

    def add_verifier(self, verifier: Verifier) -> None:
        """A key got an owner."""
        self.keep_verifier(verifier)
        self.effects.verifiers.append(verifier)

    def add_datatype(self, datatype: Datatype) -> None:
        """A datatype took effect."""
        self.keep_datatype(datatype)
        self.effects.datatypes.append(datatype)
        self._event(EventType.DATATYPE_CONFIRMED, datatype.id)

    def set_waiting(self, did: str, statements: Statements | None) -> None:
        """Replaces what waits under a DID; None forgets it."""
        for claim in self.waiting(did).claims:
            dids = self._claimed_keys.get(claim.key, set())
            dids.discard(did)
            if not dids:
                self._claimed_keys.pop(claim.key, None)
        if statements is None:
            self._statements.pop(did, None)
            self.effects.statements[did] = None
            return
        self.keep_statements(did, statements)
        self.effects.statements[did] = msgspec.json.encode(statements).decode()

    def _event(self, kind: EventType, reference: Uuid) -> None:
        self.effects.events.append(
            NewEvent(
                id=new_uuid(),
                type=kind,
                namespace=self._namespace,
                reference=reference,
                created=self.at,
                topic=DEFINITION_EVENT_TOPIC,
            )
        )

    # Keeping what is stored already

    def keep_identity(self, identity: Identity) -> None:
        """Remembers an identity."""
        self.by_did[identity.base.did] = identity
        self._did_of[identity.base.id] = identity.base.did

    def keep_verifier(self, verifier: Verifier) -> None:
        """Remembers a chain key's owner; the first one stays."""
        if verifier.type is self._key_type:
            self.keys.setdefault(verifier.value, verifier)

    def keep_datatype(self, datatype: Datatype) -> None:
        """Remembers a datatype."""
        name = f"{datatype.name}/{datatype.version}"
        self.datatypes[name] = datatype
        self._datatype_of[datatype.id] = name

    def keep_statements(self, did: str, statements: Statements) -> None:
        """Remembers what waits under a DID."""
        self._statements[did] = statements
        for claim in statements.claims:
            self._claimed_keys.setdefault(claim.key, set()).add(did)
