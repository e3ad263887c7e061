"""Fields that lists can be filtered and sorted by, per collection, with their types.

Names are as FireFly has them in query strings, in lower case. The store maps each to a column.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from photinus_core.model.errors import InternalBug


class FieldType(StrEnum):
    """How the values of a field are read and compared. The value is its name in error texts."""

    TEXT = "String"
    """Also UUIDs, hashes and enums: they are compared as text."""
    TEXT_LIST = "StringArray"
    """Several texts, compared as one text joined by commas."""
    JSON = "JSON"
    """JSON text, compared as text."""
    INTEGER = "Integer"
    BIG_INTEGER = "BigInteger"
    TIME = "Time"
    """Compared in nanoseconds."""
    BOOLEAN = "Boolean"

    @property
    def is_text(self) -> bool:
        """True where partial and case-insensitive matching make sense."""
        return self in _TEXTUAL


_TEXTUAL: Final = frozenset({FieldType.TEXT, FieldType.TEXT_LIST, FieldType.JSON})


_KINDS: Final = {
    "lists": FieldType.TEXT_LIST,
    "json": FieldType.JSON,
    "integers": FieldType.INTEGER,
    "big": FieldType.BIG_INTEGER,
    "times": FieldType.TIME,
    "booleans": FieldType.BOOLEAN,
}


def _fields(text: str = "", **others: str) -> Mapping[str, FieldType]:
    kinds = dict.fromkeys(text.split(), FieldType.TEXT)
    for kind, names in others.items():
        kinds |= dict.fromkeys(names.split(), _KINDS[kind])
    return MappingProxyType(kinds)


FIELDS: Final[Mapping[str, Mapping[str, FieldType]]] = MappingProxyType(
    {
        "messages": _fields(
            "id cid type author key tag group datahash idempotencykey hash state rejectreason "
            "txtype batch txid txparent.type txparent.id",
            lists="topics pins",
            integers="sequence",
            times="created confirmed",
        ),
        "batches": _fields(
            "id type author key group hash payloadref tx.type tx.id node",
            times="created confirmed",
        ),
        "transactions": _fields("id type idempotencykey", lists="blockchainids", times="created"),
        "data": _fields(
            "id validator datatype.name datatype.version hash blob.hash blob.public blob.name "
            "blob.path public",
            json="value",
            integers="blob.size",
            times="created",
        ),
        "datatypes": _fields("id message validator name version", times="created"),
        "operations": _fields(
            "id tx type status error plugin retry", json="input output", times="created updated"
        ),
        "subscriptions": _fields(
            "id name transport events", json="filters options", times="created"
        ),
        "deadletters": _fields(
            "id subscription event state",
            integers="attempts status",
            times="created updated",
        ),
        "events": _fields(
            "id type reference correlator tx topic", integers="sequence", times="created"
        ),
        "pins": _fields(
            "hash batch", integers="sequence index", booleans="masked dispatched", times="created"
        ),
        "nextpins": _fields("context identity hash", integers="nonce"),
        "identities": _fields(
            "id did parent messages.claim messages.verification messages.update type name "
            "description",
            json="profile",
            times="created updated",
        ),
        "verifiers": _fields("hash identity type value", times="created"),
        "groups": _fields("hash message description ledger", times="created"),
        "tokenpools": _fields(
            "id type name networkname standard locator symbol message connector tx.type tx.id "
            "interface interfaceformat",
            integers="decimals",
            booleans="active published",
            times="created",
        ),
        "tokenbalances": _fields(
            "pool tokenindex uri connector key", big="balance", times="updated"
        ),
        "tokenaccounts": _fields("key", times="updated"),
        "tokenaccountpools": _fields("pool", times="updated"),
        "tokentransfers": _fields(
            "localid pool tokenindex uri connector key from to protocolid message messagehash "
            "tx.type tx.id blockchainevent type",
            big="amount",
            times="created",
        ),
        "tokenapprovals": _fields(
            "localid pool connector key operator protocolid subject tx.type tx.id blockchainevent "
            "message messagehash",
            booleans="approved active",
            times="created",
        ),
        "ffis": _fields("id name networkname version", booleans="published"),
        "contractlisteners": _fields(
            "id name interface location topic signature backendid",
            json="state filters",
            times="created updated",
        ),
        "contractapis": _fields("id name networkname interface", booleans="published"),
        "blockchainevents": _fields(
            "id source name protocolid listener tx.type tx.id tx.blockchainid", times="timestamp"
        ),
    }
)


def fields_of(collection: str) -> Mapping[str, FieldType]:
    """Gives the fields of a collection.

    Raises:
        InternalBug: there is no such collection.
    """
    fields = FIELDS.get(collection)
    if fields is None:
        raise InternalBug("FF19000", f"no filter fields are known for collection {collection}")
    return fields
