"""The definitions view: which definitions take effect, in which order of claim and verification.

Method: messages are judged one after the other as agreement would hand them over (signer and author
already checked), and the view is rebuilt from what it asked to be stored, to show that nothing is
lost on a change of leader.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace
from photinus_core.data.schemas import DatatypeSchemas, compile_schema
from photinus_core.definitions import payloads, rules
from photinus_core.definitions.content import Content, read_content, references_of
from photinus_core.definitions.payloads import IdentityClaim, IdentityUpdate, IdentityVerification
from photinus_core.definitions.view import NamespaceDefinitions, ViewContext
from photinus_core.model import canonical
from photinus_core.model.events import EventType
from photinus_core.model.ids import Did, Hash32, Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.model.ledger import TransactionType
from photinus_core.model.messages import (
    Data,
    DataRef,
    DatatypeRef,
    Message,
    MessageHeader,
    MessageState,
    MessageType,
    SystemTag,
    Validator,
)
from photinus_core.model.network import (
    Datatype,
    Identity,
    IdentityBase,
    IdentityType,
    Verifier,
    VerifierType,
)
from photinus_core.sequencing.facts import KeyReference, MessageFacts, Reference
from photinus_core.sequencing.position import Position
from photinus_core.sequencing.view import Candidate, Confirm, Reject

NS = Namespace("alpha")
CONTEXT = ViewContext(
    NS, "net", VerifierType.ETHEREUM_ADDRESS, DatatypeSchemas().check, compile_schema
)


def base_of(kind: str, name: str, parent: IdentityBase | None = None) -> IdentityBase:
    identity_type = IdentityType(kind)
    return IdentityBase(
        new_uuid(),
        rules.did_of(identity_type, name),
        identity_type,
        "",
        name,
        parent.id if parent else None,
    )


@dataclass
class Ledger:
    """Judges messages at growing positions and keeps what is to be stored."""

    view: NamespaceDefinitions = field(default_factory=lambda: NamespaceDefinitions(CONTEXT))
    block: int = 0
    identities: dict[Uuid, Identity] = field(default_factory=dict)
    verifiers: list[Verifier] = field(default_factory=list)
    datatypes: list[Datatype] = field(default_factory=list)
    statements: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    events: list[EventType] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)

    def judge(
        self, tag: str, payload: str, author: str, key: str, message_id: Uuid | None = None
    ) -> str:
        """Judges a definition; empty when it is confirmed, else the reason."""
        return self.judge_message(definition(tag, payload, author, key, message_id))

    def judge_message(self, pair: tuple[Message, Data]) -> str:
        message, item = pair
        content = read_content(message, [item])
        facts = MessageFacts(
            id=message.header.id,
            hash=message.hash,
            author=message.header.author,
            key=message.header.key,
            topics=message.header.topics,
            payload=content,
        )
        self.block += 1
        position = Position(0, self.block, 0, 0)
        asked: list[Reference] = [
            *references_of(content, "net"),
            *self.view.further_references(facts, position),
        ]
        resolved: dict[Reference, Position | None] = {}
        for reference in asked:
            if isinstance(reference, KeyReference):
                owner = self.view.registration(reference.key)
                resolved[reference] = owner.position if owner else None
            else:
                resolved[reference] = self.view.effective_at(reference)
        owner = self.view.registration(message.header.key)
        self.view.begin(Nanoseconds(self.block))
        verdict = self.view.judge(
            Candidate(facts, position, message.header.key, owner.did if owner else None, resolved)
        )
        self._store()
        if isinstance(verdict, Confirm):
            return ""
        assert isinstance(verdict, Reject)
        return verdict.reason

    def _store(self) -> None:
        effects = self.view.take_effects()
        self.identities |= effects.identities
        self.verifiers += effects.verifiers
        self.datatypes += effects.datatypes
        self.aliases |= effects.aliases
        self.events += [event.type for event in effects.events]
        self.peers += effects.peers.values()
        for did, text in effects.statements.items():
            if text is None:
                self.statements.pop(did, None)
            else:
                self.statements[did] = text

    def restart(self) -> None:
        """A new leader: the view is built from what was stored."""
        self.view = NamespaceDefinitions(
            CONTEXT,
            self.identities.values(),
            self.verifiers,
            self.datatypes,
            self.statements,
            self.aliases,
        )

    def claim(self, base: IdentityBase, key: str, author: str = "", profile: str = "") -> str:
        payload = payloads.encode_claim(IdentityClaim(base, profile=profile))
        return self.judge(SystemTag.IDENTITY_CLAIM, payload, author or base.did, key)

    def did(self, name: str) -> Identity | None:
        return next((i for i in self.identities.values() if i.base.did == name), None)


def definition(
    tag: str, payload: str, author: str, key: str, message_id: Uuid | None = None
) -> tuple[Message, Data]:
    item = Data(
        new_uuid(),
        Validator.DEFINITION,
        NS,
        canonical.data_hash(payload),
        Nanoseconds(1),
        payload,
    )
    header = MessageHeader(
        id=message_id or new_uuid(),
        type=MessageType.DEFINITION,
        txtype=TransactionType.BATCH_PIN,
        author=author,
        key=key,
        created=Nanoseconds(1),
        namespace="net",
        topics=("t",),
        datahash=canonical.data_refs_hash([(item.id, item.hash)]),
        tag=tag,
    )
    refs = (DataRef(item.id, item.hash),)
    return Message(header, canonical.message_hash(header), refs, NS, MessageState.PENDING), item


ROOT = base_of("org", "root")


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger()
    assert made.claim(ROOT, "0xroot") == ""
    return made


def child_messages(
    base: IdentityBase, key: str, parent: IdentityBase = ROOT, parent_key: str = "0xroot"
) -> tuple[tuple[Message, Data], tuple[Message, Data]]:
    """A claim and its verification."""
    claim = definition(
        SystemTag.IDENTITY_CLAIM, payloads.encode_claim(IdentityClaim(base)), base.did, key
    )
    said = IdentityVerification(claim[0].header.id, claim[0].hash, base)
    verification = definition(
        SystemTag.IDENTITY_VERIFICATION,
        payloads.encode_verification(said),
        parent.did,
        parent_key,
    )
    return claim, verification


@pytest.mark.parametrize("verification_first", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_a_child_takes_effect_at_the_later_of_claim_and_verification(
    ledger: Ledger, verification_first: bool, restart: bool
) -> None:
    base = base_of("custom", "desk", ROOT)
    pair = child_messages(base, "0xdesk")
    first, second = pair[::-1] if verification_first else pair
    assert ledger.judge_message(first) == ""
    assert ledger.did(base.did) is None
    if not verification_first:
        assert ledger.view.open_claims("0xdesk") == [rules.identity_context(base.did)]
    if restart:
        ledger.restart()
    assert ledger.judge_message(second) == ""
    found = ledger.did(base.did)
    assert found is not None
    assert found.position == (0, 3, 0, 0, 0)
    assert (found.claim, found.verification) == (pair[0][0].header.id, pair[1][0].header.id)
    assert ledger.statements == {}
    registration = ledger.view.registration("0xdesk")
    assert registration is not None
    assert (registration.did, registration.root) == (base.did, False)
    assert not ledger.view.open_claims("0xdesk")


def test_only_the_parent_can_verify(ledger: Ledger) -> None:
    other = base_of("org", "other")
    assert ledger.claim(other, "0xother") == ""
    base = base_of("custom", "desk", ROOT)
    claim, _ = child_messages(base, "0xdesk")
    assert ledger.judge_message(claim) == ""
    _, forged = child_messages(base, "0xdesk", other, "0xother")
    assert ledger.judge_message(forged).startswith("FF10409")


def test_a_verification_must_name_the_claim_by_hash_and_base(ledger: Ledger) -> None:
    base = base_of("org", "branch", ROOT)
    claim, _ = child_messages(base, "0xbranch")
    assert ledger.judge_message(claim) == ""
    wrong_hash = IdentityVerification(claim[0].header.id, Hash32("0" * 64), base)
    assert ledger.judge(
        SystemTag.IDENTITY_VERIFICATION,
        payloads.encode_verification(wrong_hash),
        ROOT.did,
        "0xroot",
    ).startswith("FF10410")
    other_base = base_of("org", "branch", ROOT)
    wrong_base = IdentityVerification(claim[0].header.id, claim[0].hash, other_base)
    assert ledger.judge(
        SystemTag.IDENTITY_VERIFICATION,
        payloads.encode_verification(wrong_base),
        ROOT.did,
        "0xroot",
    ).startswith("FF10404")
    assert ledger.did(base.did) is None


def test_of_two_claims_of_a_name_the_verified_one_wins_for_ever(ledger: Ledger) -> None:
    true, false = base_of("custom", "desk", ROOT), base_of("custom", "desk", ROOT)
    true_claim, verification = child_messages(true, "0xtrue")
    false_claim, _ = child_messages(false, "0xfalse")
    assert ledger.judge_message(false_claim) == ""
    assert ledger.judge_message(true_claim) == ""
    assert ledger.judge_message(verification) == ""
    assert ledger.judge_message(false_claim).startswith("FF10407")
    found = ledger.did(true.did)
    assert found is not None
    assert found.base.id == true.id
    assert ledger.view.registration("0xfalse") is None


def test_a_key_that_was_taken_meanwhile_cannot_be_verified(ledger: Ledger) -> None:
    base = base_of("custom", "desk", ROOT)
    claim, verification = child_messages(base, "0xshared")
    assert ledger.judge_message(claim) == ""
    assert ledger.claim(base_of("org", "fast"), "0xshared") == ""
    assert ledger.judge_message(verification).startswith("FF10407")


def test_repeats_change_nothing(ledger: Ledger) -> None:
    base = base_of("custom", "desk", ROOT)
    claim, verification = child_messages(base, "0xdesk")
    for message in (claim, verification, claim, verification):
        assert ledger.judge_message(message) == ""
    assert ledger.claim(ROOT, "0xroot") == ""
    assert ledger.events == [EventType.IDENTITY_CONFIRMED] * 2
    assert len(ledger.verifiers) == 2


def test_the_same_base_under_another_key_is_no_repeat(ledger: Ledger) -> None:
    assert ledger.claim(ROOT, "0xthief").startswith("FF10407")
    assert ledger.view.registration("0xthief") is None


def test_old_and_new_form_of_a_custom_did_are_one_name(ledger: Ledger) -> None:
    new = base_of("custom", "desk", ROOT)
    for message in child_messages(new, "0xdesk"):
        assert ledger.judge_message(message) == ""
    old = IdentityBase(
        new_uuid(), Did("did:firefly:ns/net/desk"), IdentityType.CUSTOM, "", "desk", ROOT.id
    )
    claim, _ = child_messages(old, "0xold")
    assert [r.name for r in references_of(read_content(claim[0], [claim[1]]), "net")] == [new.did]
    assert ledger.judge_message(claim).startswith("FF10407")


def test_the_other_form_of_a_did_counts_from_its_position_on(ledger: Ledger) -> None:
    """Its topic has an order of its own: judged late, it must not see what came after it."""
    new = base_of("custom", "desk", ROOT)
    old = IdentityBase(
        new_uuid(), Did("did:firefly:ns/net/desk"), IdentityType.CUSTOM, "", "desk", ROOT.id
    )
    old_claim, old_verification = child_messages(old, "0xold")
    for item in (old_claim, old_verification):
        content = read_content(item[0], [item[1]])
        assert [r.name for r in references_of(content, "net")] == [new.did]
    assert ledger.judge_message(old_claim) == ""
    ledger.block = 50
    for message in child_messages(new, "0xnew"):
        assert ledger.judge_message(message) == ""
    ledger.block = 10
    assert ledger.judge_message(old_verification) == "", "position 11 is before the other one"
    ledger.block = 60
    assert ledger.judge_message(old_claim) == "", "a repeat of what is in effect"


def node_claim(
    ledger: Ledger, base: IdentityBase, author: str, key: str, profile: str = '{"id":"dx/n"}'
) -> str:
    return ledger.claim(base, key, author, profile)


def test_a_node_is_claimed_by_its_organisation(ledger: Ledger) -> None:
    base = base_of("node", "n", ROOT)
    other = base_of("org", "other")
    assert ledger.claim(other, "0xother") == ""
    assert node_claim(ledger, base, other.did, "0xother").startswith("FF10409")
    assert node_claim(ledger, base, ROOT.did, "0xroot", "{}").startswith("FF10403")
    assert node_claim(ledger, base, ROOT.did, "0xroot") == ""
    assert ledger.verifiers[-1].type is VerifierType.DX_PEER_ID
    assert ledger.verifiers[-1].value == "dx/n"
    assert ledger.peers == ['{"id":"dx/n"}']
    again = base_of("node", "m", ROOT)
    assert node_claim(ledger, again, ROOT.did, "0xroot") == "", "a repeated peer id is no ground"


def test_updates_are_signed_by_the_identity_or_the_nodes_parent(ledger: Ledger) -> None:
    node = base_of("node", "n", ROOT)
    assert node_claim(ledger, node, ROOT.did, "0xroot") == ""

    def update(base: IdentityBase, author: str, key: str) -> str:
        payload = payloads.encode_update(IdentityUpdate(base, "new", '{"id":"dx/n2"}'), "net")
        return ledger.judge(SystemTag.IDENTITY_UPDATE, payload, author, key)

    other = base_of("org", "other")
    assert ledger.claim(other, "0xother") == ""
    assert update(ROOT, other.did, "0xother").startswith("FF10409")
    assert update(base_of("org", "root"), ROOT.did, "0xroot").startswith("FF10404")
    assert update(base_of("org", "absent"), ROOT.did, "0xroot").startswith("FF10408")
    assert update(ROOT, ROOT.did, "0xroot") == ""
    assert update(node, ROOT.did, "0xroot") == ""
    assert ledger.peers[-1] == '{"id":"dx/n2"}'
    found = ledger.did(ROOT.did)
    assert found is not None
    assert (found.description, found.base.id) == ("new", ROOT.id)
    assert ledger.events[-2:] == [EventType.IDENTITY_UPDATED] * 2


def datatype(name: str, version: str, schema: Any, **fields: Any) -> str:
    text = canonical.compact(json.dumps(schema))
    made = payloads.DatatypeDefinition(
        fields.pop("id", new_uuid()),
        name,
        version,
        fields.pop("hash", canonical.hash_text(text)),
        Nanoseconds(1),
        text,
        **fields,
    )
    return payloads.encode_datatype(made)


def test_datatypes_are_new_by_name_and_version_and_true_to_their_hash(ledger: Ledger) -> None:
    def define(payload: str) -> str:
        return ledger.judge(SystemTag.DEFINE_DATATYPE, payload, ROOT.did, "0xroot")

    first = new_uuid()
    assert define(datatype("w", "1", {"type": "object"}, id=first)) == ""
    assert define(datatype("w", "1", {"type": "string"})).startswith("FF10407")
    assert define(datatype("w", "2", {"type": "string"}, id=first)).startswith("FF10407")
    assert define(datatype("v", "1", {}, id=first)) == "", "an id counts within its topic only"
    ledger.restart()
    assert define(datatype("v", "2", {}, id=first)).startswith("FF10407"), "after a restart too"
    assert define(datatype("x", "1", {}, hash=Hash32("1" * 64))).startswith("FF10410")
    assert define(datatype("x", "1", {}, validator="none")).startswith("FF00108")
    assert define(datatype("-", "1", {})).startswith("FF00140")
    assert define(datatype("x", "1", {"type": "absent"})).startswith("FF10196")
    assert [d.name for d in ledger.datatypes] == ["w", "v"]
    assert ledger.datatypes[0].id == first
    assert ledger.datatypes[1].id != first


def test_squatted_ids_displace_nobody_and_children_find_their_parent(ledger: Ledger) -> None:
    squatter = IdentityBase(
        ROOT.id, rules.did_of(IdentityType.ORG, "squat"), IdentityType.ORG, "", "squat"
    )
    assert ledger.claim(squatter, "0xsquat") == ""
    kept = ledger.did(squatter.did)
    assert kept is not None
    assert kept.base.id != ROOT.id
    ledger.restart()
    child = base_of("custom", "theirs", squatter)
    for message in child_messages(child, "0xtheirs", squatter, "0xsquat"):
        assert ledger.judge_message(message) == ""
    found = ledger.did(child.did)
    assert found is not None
    assert found.base.parent == kept.base.id
    ledger.restart()
    payload = payloads.encode_update(IdentityUpdate(child, "new", "{}"), "net")
    assert ledger.judge(SystemTag.IDENTITY_UPDATE, payload, child.did, "0xtheirs") == ""


def test_a_definition_needs_exactly_one_data_item(ledger: Ledger) -> None:
    message, item = definition(SystemTag.IDENTITY_CLAIM, "{}", ROOT.did, "0xroot")
    doubled = Message(message.header, message.hash, message.data * 2, NS, message.state)
    assert ledger.judge_message((doubled, item)).startswith("FF10400")


def test_a_definition_that_was_not_read_is_rejected(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever hands one over has made a mistake; it must not stop the others."""
    monkeypatch.setitem(
        globals(),
        "read_content",
        lambda message, data: Content(message, tuple(data), SystemTag.IDENTITY_CLAIM),
    )
    message = definition(SystemTag.IDENTITY_CLAIM, "{}", ROOT.did, "0xroot")
    assert ledger.judge_message(message).startswith("FF10413")


def test_a_group_must_be_the_one_its_message_is_for(ledger: Ledger) -> None:
    members = [{"identity": ROOT.did, "node": str(new_uuid())}]
    value = json.dumps({"namespace": "net", "name": "", "members": members}, separators=(",", ":"))
    message, item = definition(SystemTag.DEFINE_GROUP, value, ROOT.did, "0xroot")
    for group, code in ((Hash32("1" * 64), "FF00119"), (None, "FF00119")):
        header = replace(message.header, type=MessageType.GROUP_INIT, group=group)
        assert ledger.judge_message((replace(message, header=header), item)).startswith(code)


def test_values_are_checked_against_datatypes_in_effect(ledger: Ledger) -> None:
    defined = datatype("w", "1", {"type": "object", "required": ["id"]})
    assert ledger.judge(SystemTag.DEFINE_DATATYPE, defined, ROOT.did, "0xroot") == ""

    def judge(value: str | None, ref: DatatypeRef, validator: Validator = Validator.JSON) -> str:
        message, item = definition("", '{"x":1}', ROOT.did, "0xroot")
        header = replace(message.header, type=MessageType.BROADCAST)
        item = replace(item, value=value, datatype=ref, validator=validator)
        return ledger.judge_message((replace(message, header=header), item))

    known, unknown = DatatypeRef("w", "1"), DatatypeRef("w", "9")
    assert judge('{"id":1}', known) == ""
    assert judge('{"no":1}', known).startswith("FF10198")
    assert judge(None, known).startswith("FF10198")
    assert judge('{"id":1}', unknown).startswith("FF10195")
    assert judge('{"id":1}', unknown, Validator.NONE) == ""
