"""Identities, verifiers and datatypes: what members define for each other."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from photinus_core.model.ids import Did, Hash32, Namespace, Nanoseconds, Uuid

Position = tuple[int, int, int, int, int]
"""Place on chain: contract index, block, transaction index, log index, index in the batch."""


class IdentityType(StrEnum):
    """Kinds of identity."""

    ORG = "org"
    NODE = "node"
    CUSTOM = "custom"


class VerifierType(StrEnum):
    """Kinds of key."""

    ETHEREUM_ADDRESS = "ethereum_address"
    TEZOS_ADDRESS = "tezos_address"
    CARDANO_ADDRESS = "cardano_address"
    FABRIC_MSP_ID = "fabric_msp_id"
    DX_PEER_ID = "dx_peer_id"


class IdentityBase(msgspec.Struct, frozen=True, gc=False):
    """The immutable part of an identity: equal bases are the same identity."""

    id: Uuid
    did: Did
    type: IdentityType
    namespace: str
    name: str
    parent: Uuid | None = None


class Identity(msgspec.Struct, frozen=True, gc=False):
    """An identity as confirmed (or, in a gateway namespace, as made)."""

    base: IdentityBase
    namespace: Namespace
    created: Nanoseconds
    updated: Nanoseconds
    description: str = ""
    profile: str = ""
    """JSON object text; empty for none."""
    claim: Uuid | None = None
    verification: Uuid | None = None
    update: Uuid | None = None
    position: Position | None = None
    """Chain position at which it took effect; None in a gateway namespace."""


class Verifier(msgspec.Struct, frozen=True, gc=False):
    """A key that proves an identity."""

    hash: Hash32
    identity: Uuid
    namespace: Namespace
    type: VerifierType
    value: str
    created: Nanoseconds
    position: Position | None = None


class Datatype(msgspec.Struct, frozen=True, gc=False):
    """A named JSON Schema that data can be checked against."""

    id: Uuid
    namespace: Namespace
    name: str
    version: str
    hash: Hash32
    created: Nanoseconds
    value: str
    """The JSON Schema, compact text."""
    message: Uuid | None = None
    position: Position | None = None
