"""What one message holds, read once: its data and, for a definition, the parsed payload.

Agreement carries a `Content` along with each message's facts and hands it back when the message is
judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from photinus_core.definitions import rules
from photinus_core.definitions.payloads import (
    KINDS,
    DatatypeDefinition,
    Definition,
    IdentityClaim,
    IdentityVerification,
    decode_definition,
)
from photinus_core.model import canonical
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Hash32
from photinus_core.model.messages import (
    Data,
    DatatypeRef,
    Message,
    MessageType,
    SystemTag,
    Validator,
)
from photinus_core.sequencing.facts import DefinitionReference

IDENTITY_TAGS: Final = frozenset(
    {SystemTag.IDENTITY_CLAIM, SystemTag.IDENTITY_VERIFICATION, SystemTag.IDENTITY_UPDATE}
)


@dataclass(frozen=True, slots=True)
class Content:
    """A message with what it refers to.

    Attributes:
        message: The message.
        data: Its data items in the order of its references; shorter when some are not here.
        tag: The kind of definition it is; None for other messages and for definitions unknown to
            this member.
        definition: The parsed payload, or why there is none.
    """

    message: Message
    data: tuple[Data, ...]
    tag: SystemTag | None = None
    definition: Definition | Rejected | None = None


def read_content(message: Message, data: Sequence[Data]) -> Content:
    """Reads a message. Never raises: what is wrong with a definition is kept for its judgement."""
    tag = definition_tag(message)
    items = tuple(data)
    if tag is None:
        return Content(message, items)
    if len(message.data) != 1:
        return Content(message, items, tag, Rejected("FF10400", KINDS[tag], message.header.id))
    try:
        definition = decode_definition(tag, message.header.id, items[0].value if items else None)
    except Rejected as failure:
        return Content(message, items, tag, failure)
    return Content(message, items, tag, definition)


def definition_tag(message: Message) -> SystemTag | None:
    """Tells which definition a message is, if it is one that this member understands."""
    if message.header.type is not MessageType.DEFINITION:
        return None
    return next((tag for tag in KINDS if tag == message.header.tag), None)


def is_identity(content: Content) -> bool:
    """Claims, verifications, updates."""
    return content.tag in IDENTITY_TAGS


def is_own_claim(content: Content) -> bool:
    """A claim that its own key signs.

    One that cannot be read counts too: it is judged, and rejected.
    """
    if content.tag is not SystemTag.IDENTITY_CLAIM:
        return False
    claim = content.definition
    return not isinstance(claim, IdentityClaim) or rules.is_signed_by_itself(claim.base)


def topic_of(content: Content) -> Hash32 | None:
    """The one topic a definition must have."""
    match content.definition:
        case None | Rejected():
            return None
        case DatatypeDefinition(name=name):
            return rules.datatype_topic(name)
        case claim:
            return canonical.identity_topic(claim.base.did)


def references_of(content: Content, network_name: str) -> tuple[DefinitionReference, ...]:
    """Definitions that a message refers to beyond its author, each once."""
    if isinstance(content.definition, IdentityClaim | IdentityVerification):
        # Type and name of an identity are unique, but old custom identities have another DID, and
        # so another topic.
        other = rules.other_did(content.definition.base, network_name)
        return () if other is None else (identity_reference(other),)
    wanted = dict.fromkeys(
        item.datatype
        for item in content.data
        if item.datatype is not None and item.validator is Validator.JSON
    )
    return tuple(datatype_reference(ref) for ref in wanted)


def identity_reference(did: str) -> DefinitionReference:
    """Names an identity to agreement."""
    return DefinitionReference(rules.IDENTITY_KIND, did, rules.identity_context(did))


def datatype_reference(ref: DatatypeRef) -> DefinitionReference:
    """Names a datatype to agreement: all versions share a topic."""
    return DefinitionReference(
        rules.DATATYPE_KIND, f"{ref.name}/{ref.version}", rules.datatype_context(ref.name)
    )
