"""The JSON of definition messages, as FireFly writes and reads it.

Written byte for byte as FireFly would: key order, omitted fields, sorted profiles. Read tolerantly:
absent and null are the same, unknown fields are skipped. Reading checks shapes only; `rules` and
`view` judge the content.
"""

from __future__ import annotations

from typing import Final

import msgspec

from photinus_core.model import canonical
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.ids import Did, Hash32, Nanoseconds, Uuid, parse_hash, parse_uuid
from photinus_core.model.messages import Record, SystemTag
from photinus_core.model.network import IdentityBase, IdentityType

PROFILE_CHARS_MAX: Final = 65_536
"""Longest profile of an identity, as JSON."""


class IdentityClaim(Record, frozen=True):
    """Payload of `ff_identity_claim`: somebody says who they are."""

    base: IdentityBase
    description: str = ""
    profile: str = ""


class IdentityVerification(Record, frozen=True):
    """Payload of `ff_identity_verification`: a parent vouches for a claim."""

    claim: Uuid
    claim_hash: Hash32
    base: IdentityBase


class IdentityUpdate(Record, frozen=True):
    """Payload of `ff_identity_update`: new description and profile, replaced as a whole."""

    base: IdentityBase
    description: str = ""
    profile: str = ""


class DatatypeDefinition(Record, frozen=True):
    """Payload of `ff_define_datatype`."""

    id: Uuid
    name: str
    version: str
    hash: Hash32
    created: Nanoseconds
    value: str
    validator: str = "json"


Definition = IdentityClaim | IdentityVerification | IdentityUpdate | DatatypeDefinition

KINDS: Final = {
    SystemTag.IDENTITY_CLAIM: "identity claim",
    SystemTag.IDENTITY_VERIFICATION: "identity verification",
    SystemTag.IDENTITY_UPDATE: "identity update",
    SystemTag.DEFINE_DATATYPE: "datatype",
}
"""Names of the definitions this member understands, as reasons of rejection say them."""


_ABSENT: Final = msgspec.Raw(b"")


class _Base(msgspec.Struct):
    id: str | None = None
    did: str | None = None
    type: str | None = None
    parent: str | None = None
    name: str | None = None
    description: str | None = None
    profile: msgspec.Raw = _ABSENT


class _Claim(msgspec.Struct):
    identity: _Base


class _MessageRef(msgspec.Struct):
    id: str
    hash: str


class _Verification(msgspec.Struct):
    claim: _MessageRef
    identity: _Base


class _Profile(msgspec.Struct):
    description: str | None = None
    profile: msgspec.Raw = _ABSENT


class _Update(msgspec.Struct):
    identity: _Base
    updates: _Profile


class _Datatype(msgspec.Struct):
    id: str
    name: str | None = None
    version: str | None = None
    hash: str | None = None
    validator: str | None = None
    created: str | None = None
    value: msgspec.Raw = _ABSENT


_claim_decoder = msgspec.json.Decoder(_Claim)
_verification_decoder = msgspec.json.Decoder(_Verification)
_update_decoder = msgspec.json.Decoder(_Update)
_datatype_decoder = msgspec.json.Decoder(_Datatype)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_definition(tag: SystemTag, message: Uuid, value: str | None) -> Definition:
    """Reads the payload of a definition message.

    Args:
        tag: One of `KINDS`.
        message: Id of the message, for the error.
        value: Value of its one data item.

    Raises:
        Rejected: FF10400, it is none.
    """
    try:
        return _decode(tag, value or "")
    except (msgspec.DecodeError, ValueError, RecursionError, PhotinusError) as failure:
        raise Rejected("FF10400", KINDS[tag], message) from failure


def _decode(tag: SystemTag, value: str) -> Definition:
    match tag:
        case SystemTag.IDENTITY_CLAIM:
            claim = _claim_decoder.decode(value).identity
            return IdentityClaim(_base(claim), claim.description or "", _object_text(claim.profile))
        case SystemTag.IDENTITY_VERIFICATION:
            verification = _verification_decoder.decode(value)
            return IdentityVerification(
                claim=parse_uuid(verification.claim.id),
                claim_hash=parse_hash(verification.claim.hash),
                base=_base(verification.identity),
            )
        case SystemTag.IDENTITY_UPDATE:
            update = _update_decoder.decode(value)
            new = update.updates
            return IdentityUpdate(
                _base(update.identity), new.description or "", _object_text(new.profile)
            )
        case _:
            return _datatype(_datatype_decoder.decode(value))


def _base(raw: _Base) -> IdentityBase:
    return IdentityBase(
        id=parse_uuid(raw.id or ""),
        did=Did(raw.did or ""),
        type=IdentityType(raw.type or ""),
        namespace="",
        name=raw.name or "",
        parent=parse_uuid(raw.parent) if raw.parent else None,
    )


def _object_text(raw: msgspec.Raw) -> str:
    text = bytes(raw).decode()
    if text in {"", "null"}:
        return ""
    if not text.startswith("{"):
        raise ValueError("not a JSON object")
    return text


def _datatype(raw: _Datatype) -> DatatypeDefinition:
    value = bytes(raw.value).decode()
    return DatatypeDefinition(
        id=parse_uuid(raw.id),
        name=raw.name or "",
        version=raw.version or "",
        hash=parse_hash(raw.hash or ""),
        created=canonical.parse_time(raw.created) if raw.created else Nanoseconds(0),
        value="" if value == "null" else value,
        validator=raw.validator or "json",
    )


def encode_claim(claim: IdentityClaim) -> str:
    """Writes a claim."""
    base = claim.base
    description = (
        f',"description":{canonical.quote(claim.description)}' if claim.description else ""
    )
    profile = f',"profile":{claim.profile}' if claim.profile else ""
    return (
        f'{{"identity":{{{_base_members(base, "")}{description}{profile},'
        f'"messages":{{"claim":null,"verification":null,"update":null}}}}}}'
    )


def encode_verification(verification: IdentityVerification) -> str:
    """Writes a verification."""
    return (
        f'{{"claim":{{"id":"{verification.claim}","hash":"{verification.claim_hash}"}},'
        f'"identity":{{{_base_members(verification.base, "")}}}}}'
    )


def encode_update(update: IdentityUpdate, network_name: str) -> str:
    """Writes an update.

    FireFly puts a namespace name here and nowhere else; receivers ignore it.
    """
    parts = []
    if update.description:
        parts.append(f'"description":{canonical.quote(update.description)}')
    if update.profile:
        parts.append(f'"profile":{update.profile}')
    return (
        f'{{"identity":{{{_base_members(update.base, network_name)}}},'
        f'"updates":{{{",".join(parts)}}}}}'
    )


def encode_datatype(datatype: DatatypeDefinition) -> str:
    """Writes a datatype."""
    quote = canonical.quote
    return (
        f'{{"id":"{datatype.id}","validator":{quote(datatype.validator)},"name":{quote(datatype.name)},'
        f'"version":{quote(datatype.version)},"hash":"{datatype.hash}",'
        f'"created":"{canonical.format_time(datatype.created)}","value":{datatype.value}}}'
    )


def _base_members(base: IdentityBase, namespace: str) -> str:
    quote = canonical.quote
    parent = f',"parent":"{base.parent}"' if base.parent else ""
    name = f',"name":{quote(base.name)}' if base.name else ""
    return (
        f'"id":"{base.id}","did":{quote(base.did)},"type":"{base.type}"{parent},'
        f'"namespace":{quote(namespace)}{name}'
    )


def normalize_profile(profile: str, **members: str) -> str:
    """Brings a profile into FireFly's form: members sorted by name, no space.

    Args:
        profile: JSON object; empty for none.
        members: Text members to set.

    Raises:
        Rejected: FF00127, it is no JSON object; FF00135, it is too long.
    """
    if not profile and not members:
        return ""
    try:
        found = _object_decoder.decode(canonical.compact(profile)) if profile else {}
    except (msgspec.DecodeError, ValueError, RecursionError) as failure:
        raise Rejected("FF00127", profile[:100]) from failure
    texts = {name: bytes(raw).decode() for name, raw in found.items()}
    texts.update({name: canonical.quote(text) for name, text in members.items()})
    written = ",".join(f"{canonical.quote(name)}:{texts[name]}" for name in sorted(texts))
    if len(written) > PROFILE_CHARS_MAX:
        raise Rejected("FF00135", "profile", PROFILE_CHARS_MAX)
    return f"{{{written}}}"


def profile_member(profile: str, name: str) -> str:
    """Reads a text member of a profile; empty when it is absent or no text."""
    if not profile:
        return ""
    try:
        raw = _object_decoder.decode(profile).get(name)
        found = None if raw is None else msgspec.json.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""
