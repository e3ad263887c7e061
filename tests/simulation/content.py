"""What simulated members send each other, and a small rule book for it.

Four kinds of definitions are enough to race with the messages that use them: root organisations,
children that need a parent's verification, datatypes, groups. `Definitions` is both the view of
the production machine and the rule book of the oracle; order, repeats, signers and references
are not its business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from photinus_core.model.canonical import (
    broadcast_context,
    definition_topic,
    group_hash,
    hash_text,
    identity_topic,
)
from photinus_core.sequencing.facts import (
    BatchFacts,
    BatchKey,
    DefinitionReference,
    KeyReference,
    MessageFacts,
    Need,
    Reference,
    blob_need,
)
from photinus_core.sequencing.position import Position
from photinus_core.sequencing.view import (
    Candidate,
    Confirm,
    Registration,
    Reject,
    Verdict,
)


@dataclass(frozen=True)
class Body:
    """Content of a message."""

    kind: str = "text"
    """`text`, `root`, `child`, `verification`, `datatype`, `group`."""
    did: str = ""
    parent: str = ""
    claim: str = ""
    child_key: str = ""
    name: str = ""
    members: tuple[str, ...] = ()
    good: bool = True
    datatype: str = ""
    blob: str = ""


@dataclass(frozen=True)
class SimMessage:
    """A message; `hash` covers all of it."""

    id: str
    author: str
    key: str
    topics: tuple[str, ...]
    group: str | None
    body: Body
    cancels: str | None = None
    hash: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        text = repr(
            (self.id, self.author, self.key, self.topics, self.group, self.body, self.cancels)
        )
        object.__setattr__(self, "hash", hash_text(text))


@dataclass(frozen=True)
class SimBatch:
    """A batch; private if it has a group."""

    id: str
    messages: tuple[SimMessage, ...]
    group: str | None
    hash: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        digest = sha256(repr((self.id, [m.hash for m in self.messages])).encode())
        object.__setattr__(self, "hash", digest.hexdigest())

    @property
    def payload_ref(self) -> str:
        return "" if self.group else f"ref-{self.hash}"

    @property
    def key(self) -> BatchKey:
        return BatchKey(self.id, self.hash, self.payload_ref)


def topic_of(body: Body) -> str | None:
    """The topic a definition must have."""
    match body.kind:
        case "root" | "child" | "verification":
            return identity_topic(body.did)
        case "datatype":
            return definition_topic("datatype", body.name)
        case "group":
            return sim_group_hash(body.members)
        case _:
            return None


def sim_group_hash(members: tuple[str, ...]) -> str:
    return group_hash("ns", "", [(did, f"node-of-{did}") for did in members])


def datatype_reference(name: str) -> DefinitionReference:
    context = broadcast_context(definition_topic("datatype", name))
    return DefinitionReference("datatype", name, context)


def facts_of_batch(
    batch: SimBatch,
    blobs: Collection[str],
    decided: Collection[str],
    groups: Mapping[str, tuple[str, ...]] | None = None,
) -> BatchFacts:
    """What a member that stored the batch can tell the machine, given what else it stored.

    Without other groups it knows those that the batch introduces.
    """
    if groups is None:
        groups = introduced_groups(batch)
    named = {m.group for m in batch.messages if m.group is not None}
    known = {group: groups[group] for group in sorted(named) if group in groups}
    messages = tuple(_facts(m, blobs, m.hash in decided) for m in batch.messages)
    return BatchFacts(batch.key, messages, groups=known)


def introduced_groups(batch: SimBatch) -> dict[str, tuple[str, ...]]:
    """Groups that a batch proves by their hashes."""
    return {
        m.group: m.body.members
        for m in batch.messages
        if m.body.kind == "group" and m.group == sim_group_hash(m.body.members)
    }


def _facts(message: SimMessage, blobs: Collection[str], decided: bool) -> MessageFacts:
    body = message.body
    lacks: frozenset[Need] = frozenset()
    if body.blob and body.blob not in blobs:
        lacks = frozenset([blob_need(body.blob, body.blob)])
    return MessageFacts(
        id=message.id,
        hash=message.hash,
        author=message.author,
        key=message.key,
        topics=message.topics,
        group=message.group,
        is_identity=body.kind in ("root", "child", "verification"),
        is_claim=body.kind in ("root", "child"),
        definition_topic=topic_of(body),
        references=(datatype_reference(body.datatype),) if body.datatype else (),
        needs=lacks,
        cancels=message.cancels,
        decided=decided,
        payload=message,
    )


class Change(NamedTuple):
    """One row that a confirmed definition writes."""

    table: str
    name: str
    value: object


@dataclass(frozen=True)
class Claim:
    hash: str
    key: str
    position: Position


@dataclass
class Definitions:
    """Definitions in effect, and the rules for new ones.

    Starts from stored rows; `changes` are what a pass adds.
    """

    owners: dict[str, Registration] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    verifications: dict[str, dict[str, Position]] = field(default_factory=dict)
    """By DID and claim hash."""
    datatypes: dict[str, Position] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def apply(self, change: Change) -> None:
        """Writes a row."""
        match change:
            case Change("owner", key, Registration() as registration):
                self.owners[key] = registration
            case Change("claim", did, Claim() as claim):
                self.claims[did] = claim
            case Change("verification", did, (str() as claim_hash, Position() as position)):
                self.verifications.setdefault(did, {})[claim_hash] = position
            case Change("datatype", name, Position() as position):
                self.datatypes[name] = position
            case _:
                raise AssertionError(change)

    def _write(self, table: str, name: str, value: object) -> None:
        change = Change(table, name, value)
        self.apply(change)
        self.changes.append(change)

    # The view of the machine

    def registration(self, key: str) -> Registration | None:
        return self.owners.get(key)

    def open_claims(self, key: str) -> list[str]:
        return [
            broadcast_context(identity_topic(did))
            for did, claim in self.claims.items()
            if claim.key == key and key not in self.owners
        ]

    def effective_at(self, reference: DefinitionReference) -> Position | None:
        return self.datatypes.get(reference.name)

    def further_references(self, message: MessageFacts, position: Position) -> list[Reference]:
        assert isinstance(message.payload, SimMessage)
        body = message.payload.body
        if body.kind == "verification" and body.did in self.claims:
            return [KeyReference(self.claims[body.did].key)]
        return []

    def judge(self, candidate: Candidate) -> Verdict:
        message = candidate.message.payload
        assert isinstance(message, SimMessage)
        body, position = message.body, candidate.position
        match body.kind:
            case "root" | "child":
                return self._claim(message, body, candidate)
            case "verification":
                return self._verification(message, body, candidate)
            case "datatype":
                if body.name in self.datatypes:
                    return Reject("datatype exists")
                self._write("datatype", body.name, position)
            case "group":
                if sim_group_hash(body.members) != message.group:
                    return Reject("group hash")
            case _:
                if body.datatype and candidate.resolved[datatype_reference(body.datatype)] is None:
                    return Reject("datatype unknown")
                if not body.good:
                    return Reject("value does not fit")
        return Confirm()

    def _claim(self, message: SimMessage, body: Body, candidate: Candidate) -> Verdict:
        if message.author != body.did:
            return Reject("author is not the claimed identity")
        if body.did in self.claims:
            return Reject("identity exists")
        if candidate.resolved[KeyReference(message.key)] is not None:
            return Reject("key is taken")
        self._write("claim", body.did, Claim(message.hash, message.key, candidate.position))
        verified = message.hash in self.verifications.get(body.did, {})
        if body.kind == "root" or verified:
            owner = Registration(body.did, candidate.position, body.kind == "root")
            self._write("owner", message.key, owner)
        return Confirm()

    def _verification(self, message: SimMessage, body: Body, candidate: Candidate) -> Verdict:
        if body.parent != message.author:
            return Reject("not the parent")
        claim = self.claims.get(body.did)
        if claim is None:
            self._write("verification", body.did, (body.claim, candidate.position))
            return Confirm()
        if claim.hash != body.claim:
            return Reject("another claim")
        if candidate.resolved[KeyReference(claim.key)] is not None:
            return Reject("key is taken")
        self._write("owner", claim.key, Registration(body.did, candidate.position, root=False))
        return Confirm()
