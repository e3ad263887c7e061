"""Identities, verifiers and datatypes: decoding, reading, writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from photinus_core.model.changes import ChangeCollection, ChangeKind
from photinus_core.model.ids import Did, Hash32, Namespace, Nanoseconds, Uuid
from photinus_core.model.network import (
    Datatype,
    Identity,
    IdentityBase,
    IdentityType,
    Verifier,
    VerifierType,
)
from photinus_core.store.rows import read_position, uuid_or_none, write_position
from photinus_core.store.session import Row, Session, WriteSession

IDENTITY_COLUMNS: Final = (
    "id, did, type, network_namespace, name, parent, namespace, created, updated, description, "
    "profile, claim, verification, update_message, position"
)
VERIFIER_COLUMNS: Final = "hash, identity, namespace, type, value, created, position"
DATATYPE_COLUMNS: Final = "id, namespace, name, version, hash, created, value, message, position"


def decode_identity(row: Row) -> Identity:
    """Reads a row of `IDENTITY_COLUMNS`."""
    base = IdentityBase(
        Uuid(row[0]), Did(row[1]), IdentityType(row[2]), row[3], row[4], uuid_or_none(row[5])
    )
    return Identity(
        base=base,
        namespace=Namespace(row[6]),
        created=Nanoseconds(row[7]),
        updated=Nanoseconds(row[8]),
        description=row[9],
        profile=row[10],
        claim=uuid_or_none(row[11]),
        verification=uuid_or_none(row[12]),
        update=uuid_or_none(row[13]),
        position=read_position(row[14]),
    )


def decode_verifier(row: Row) -> Verifier:
    """Reads a row of `VERIFIER_COLUMNS`."""
    return Verifier(
        hash=Hash32(row[0]),
        identity=Uuid(row[1]),
        namespace=Namespace(row[2]),
        type=VerifierType(row[3]),
        value=row[4],
        created=Nanoseconds(row[5]),
        position=read_position(row[6]),
    )


def decode_datatype(row: Row) -> Datatype:
    """Reads a row of `DATATYPE_COLUMNS`."""
    return Datatype(
        id=Uuid(row[0]),
        namespace=Namespace(row[1]),
        name=row[2],
        version=row[3],
        hash=Hash32(row[4]),
        created=Nanoseconds(row[5]),
        value=row[6],
        message=uuid_or_none(row[7]),
        position=read_position(row[8]),
    )


class NetworkReading(Session):
    """Reads identities, verifiers and datatypes."""

    async def identity(self, identity: Uuid) -> Identity | None:
        return await self._identity_where("id = $2", identity)

    async def identity_by_did(self, did: str) -> Identity | None:
        return await self._identity_where("did = $2", did)

    async def identity_by_name(self, kind: IdentityType, name: str) -> Identity | None:
        return await self._identity_where("type = $2 AND name = $3", kind.value, name)

    async def _identity_where(self, condition: str, *args: object) -> Identity | None:
        row = await self.fetch_one(
            f"SELECT {IDENTITY_COLUMNS} FROM identities WHERE namespace = $1 AND {condition}", *args
        )
        return decode_identity(row) if row else None

    async def identities(self, kind: IdentityType | None = None) -> list[Identity]:
        if kind is None:
            rows = await self.fetch(
                f"SELECT {IDENTITY_COLUMNS} FROM identities WHERE namespace = $1 ORDER BY sequence"
            )
        else:
            rows = await self.fetch(
                f"SELECT {IDENTITY_COLUMNS} FROM identities "
                "WHERE namespace = $1 AND type = $2 ORDER BY sequence",
                kind.value,
            )
        return [decode_identity(row) for row in rows]

    async def verifier(self, kind: VerifierType, value: str) -> Verifier | None:
        row = await self.fetch_one(
            f"SELECT {VERIFIER_COLUMNS} FROM verifiers "
            "WHERE namespace = $1 AND type = $2 AND value = $3",
            kind.value,
            value,
        )
        return decode_verifier(row) if row else None

    async def verifiers_of(self, identities: Sequence[Uuid]) -> dict[Uuid, list[Verifier]]:
        rows = await self.fetch(
            f"SELECT {VERIFIER_COLUMNS} FROM verifiers "
            "WHERE namespace = $1 AND identity = ANY($2) ORDER BY sequence",
            identities,
        )
        found: dict[Uuid, list[Verifier]] = {}
        for verifier in map(decode_verifier, rows):
            found.setdefault(verifier.identity, []).append(verifier)
        return found

    async def datatype(self, name: str, version: str) -> Datatype | None:
        row = await self.fetch_one(
            f"SELECT {DATATYPE_COLUMNS} FROM datatypes "
            "WHERE namespace = $1 AND name = $2 AND version = $3",
            name,
            version,
        )
        return decode_datatype(row) if row else None

    async def datatypes(self) -> list[Datatype]:
        rows = await self.fetch(
            f"SELECT {DATATYPE_COLUMNS} FROM datatypes WHERE namespace = $1 ORDER BY sequence"
        )
        return [decode_datatype(row) for row in rows]


class NetworkWriting(WriteSession):
    """Writes identities, verifiers and datatypes."""

    async def upsert_identity(self, identity: Identity) -> None:
        base = identity.base
        self.later(
            "INSERT INTO identities (namespace, id, did, type, network_namespace, name, parent, "
            "created, updated, description, claim, verification, update_message, position, profile) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) "
            "ON CONFLICT (namespace, id) DO UPDATE SET updated = excluded.updated, "
            "description = excluded.description, profile = excluded.profile, "
            "claim = excluded.claim, verification = excluded.verification, "
            "update_message = excluded.update_message",
            base.id,
            base.did,
            base.type.value,
            base.namespace,
            base.name,
            base.parent or "",
            identity.created,
            identity.updated,
            identity.description,
            identity.claim or "",
            identity.verification or "",
            identity.update or "",
            write_position(identity.position),
            identity.profile,
        )
        is_new = identity.update is None and identity.updated == identity.created
        kind = ChangeKind.CREATED if is_new else ChangeKind.UPDATED
        self.note(ChangeCollection.IDENTITIES, kind, (base.id,))
        self.touch("definitions")

    async def insert_verifiers(self, verifiers: Sequence[Verifier]) -> None:
        # Positions are written so that texts compare as they do; '' (none) never displaces an owner.
        self.later_many(
            "INSERT INTO verifiers (namespace, hash, identity, type, value, created, position) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7) "
            "ON CONFLICT (namespace, type, value) DO UPDATE SET hash = excluded.hash, "
            "identity = excluded.identity, created = excluded.created, "
            "position = excluded.position "
            "WHERE excluded.position <> '' AND excluded.position < verifiers.position",
            [
                (
                    v.namespace,
                    v.hash,
                    v.identity,
                    v.type.value,
                    v.value,
                    v.created,
                    write_position(v.position),
                )
                for v in verifiers
            ],
        )
        self.touch("definitions")

    async def insert_datatype(self, datatype: Datatype) -> None:
        # A name and version that are taken keep their first datatype, as agreement decided.
        self.later(
            "INSERT INTO datatypes (namespace, id, name, version, hash, created, message, "
            "position, value) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            datatype.id,
            datatype.name,
            datatype.version,
            datatype.hash,
            datatype.created,
            datatype.message or "",
            write_position(datatype.position),
            datatype.value,
        )
        if self.noted is not None:
            self.noted.land(ChangeCollection.DATATYPES, {datatype.id: datatype.created})
        self.touch("definitions")
