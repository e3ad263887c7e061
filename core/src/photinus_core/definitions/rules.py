"""What a well-formed identity is: names, DIDs, which type may have which parent.

Pure functions of what a message contains, so that all members judge alike.
"""

from __future__ import annotations

from typing import Final

from photinus_core.model import canonical, names
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Did, Hash32
from photinus_core.model.network import IdentityBase, IdentityType

ORG_PREFIX: Final = "did:firefly:org/"
NODE_PREFIX: Final = "did:firefly:node/"
CUSTOM_PREFIX: Final = "did:firefly:"
CUSTOM_NAMESPACE_PREFIX: Final = "did:firefly:ns/"

PARENT_TYPES: Final = {
    IdentityType.ORG: frozenset({IdentityType.ORG}),
    IdentityType.NODE: frozenset({IdentityType.ORG}),
    IdentityType.CUSTOM: frozenset({IdentityType.ORG, IdentityType.CUSTOM}),
}
"""By type of an identity the types its parent may have."""

DATATYPE_KIND: Final = "datatype"
"""What topics of datatypes are a hash over, beside the name."""
IDENTITY_KIND: Final = "identity"


def did_of(kind: IdentityType, name: str) -> Did:
    """The DID of an identity."""
    match kind:
        case IdentityType.ORG:
            return Did(ORG_PREFIX + name)
        case IdentityType.NODE:
            return Did(NODE_PREFIX + name)
        case IdentityType.CUSTOM:
            return Did(CUSTOM_PREFIX + name)


def other_did(base: IdentityBase, network_name: str) -> Did | None:
    """The second DID a custom identity could have: an old form names the namespace too."""
    if base.type is not IdentityType.CUSTOM:
        return None
    old = Did(f"{CUSTOM_NAMESPACE_PREFIX}{network_name}/{base.name}")
    return did_of(base.type, base.name) if base.did == old else old


def check_base(base: IdentityBase, network_name: str) -> None:
    """Checks an identity by itself.

    Raises:
        Rejected: FF00140 or FF00141 its name, FF00120 its DID, FF00124 it lacks a parent.
    """
    names.check_name_not_uuid(base.name, "name")
    if base.did not in (did_of(base.type, base.name), _old_did(base, network_name)):
        raise Rejected("FF00120", base.did, base.type, network_name, base.name)
    if base.parent is None and base.type is not IdentityType.ORG:
        raise Rejected("FF00124", base.type)


def _old_did(base: IdentityBase, network_name: str) -> str:
    if base.type is not IdentityType.CUSTOM:
        return ""
    return f"{CUSTOM_NAMESPACE_PREFIX}{network_name}/{base.name}"


def check_parent(base: IdentityBase, parent: IdentityBase) -> None:
    """Checks that an identity may be the child of another.

    Raises:
        Rejected: FF10365.
    """
    if parent.type not in PARENT_TYPES[base.type]:
        raise Rejected("FF10365", parent.did, parent.id, parent.type, base.did, base.id, base.type)


def same_base(one: IdentityBase, other: IdentityBase) -> bool:
    """Tells whether two bases are one identity.

    The namespace does not count: it is not said on the wire.
    """
    return (one.id, one.did, one.type, one.parent, one.name) == (
        other.id,
        other.did,
        other.type,
        other.parent,
        other.name,
    )


def is_signed_by_itself(base: IdentityBase) -> bool:
    """Tells who claims: a node is claimed by its parent, all others by their own key."""
    return base.type is not IdentityType.NODE


def identity_context(did: str) -> Hash32:
    """What pins of messages about an identity carry."""
    return canonical.broadcast_context(canonical.identity_topic(did))


def datatype_topic(name: str) -> Hash32:
    """The topic of all versions of a datatype."""
    return canonical.definition_topic(DATATYPE_KIND, name)


def datatype_context(name: str) -> Hash32:
    """What pins of a datatype's definitions carry."""
    return canonical.broadcast_context(datatype_topic(name))
