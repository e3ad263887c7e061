"""Keeps data items.

Stores values, streams blobs to and from the data exchange, deletes both.

A blob is written to the data exchange before its row; when the row cannot be written the blob is
deleted again, and what a crash in between leaves is swept by its idempotency key (the data id) on
the next upload or by the connector.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from photinus_core.data.inputs import DataInput, ResolvedData
from photinus_core.data.schemas import DatatypeSchemas
from photinus_core.model import canonical
from photinus_core.model.errors import Conflict, NotFound, Rejected
from photinus_core.model.ids import Hash32, Namespace, Uuid, new_uuid
from photinus_core.model.messages import Blob, BlobRef, Data, DataRef, DatatypeRef, Validator
from photinus_core.model.names import BLOB_NAME_CHARS_MAX, blob_name, blob_path, check_text
from photinus_core.model.network import Datatype
from photinus_core.ports.clock import Clock
from photinus_core.ports.connectors import CallKey, DataExchange
from photinus_core.ports.store import Store

DATATYPE_CACHE_MAX: Final = 1_000
SUB_PATHS_MAX: Final = 10_000
"""Most folders in one answer."""


class DataService:
    """Data items of one namespace."""

    def __init__(
        self, store: Store, namespace: Namespace, clock: Clock, exchange: DataExchange | None
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._exchange = exchange
        self._schemas = DatatypeSchemas()
        self._datatypes: dict[tuple[str, str], Datatype] = {}

    async def resolve(self, inputs: Sequence[DataInput]) -> ResolvedData:
        """Checks the items of a message and makes rows for the new ones; stores nothing.

        Raises:
            Rejected: FF10204 unknown reference, FF00129 one comes twice, FF10205 neither
                id nor value, FF10195 or FF10198
                datatype trouble.
        """
        if not inputs:
            return ResolvedData()
        known = await self._known([i.id for i in inputs if i.id is not None])
        refs: list[DataRef] = []
        rows: list[Data] = []
        new: list[Data] = []
        for index, item in enumerate(inputs):
            if item.id is not None:
                row = known.get(item.id)
                if row is None or (item.hash is not None and item.hash != row.hash):
                    raise Rejected("FF10204", index)
                if row in rows:
                    raise Rejected("FF00129", index)
            elif item.value is None:
                raise Rejected("FF10205", index)
            else:
                row = await self.make_value(item)
                new.append(row)
            rows.append(row)
            refs.append(DataRef(row.id, row.hash))
        return ResolvedData(tuple(refs), tuple(new), tuple(rows))

    async def make_value(self, item: DataInput) -> Data:
        """Makes the row of a new inline value, checked against its datatype; stores nothing."""
        validator = self._validator(item.validator)
        value = "null" if item.value is None else _compact(item.value)
        if value == "null":
            raise Rejected("FF00109")
        if item.datatype is not None:
            await self._check(item.datatype, validator, value)
        return Data(
            id=new_uuid(),
            validator=validator,
            namespace=self._namespace,
            hash=canonical.data_hash(value, None),
            created=self._clock.now(),
            value=value,
            datatype=item.datatype,
        )

    async def store_value(self, item: DataInput) -> Data:
        """Stores a value outside of any message."""
        row = await self.make_value(item)
        async with self._store.write(self._namespace) as tx:
            await tx.insert_data([row])
        return row

    async def upload(
        self,
        chunks: AsyncIterator[bytes],
        *,
        metadata: str | None = None,
        validator: str = "",
        datatype: DatatypeRef | None = None,
    ) -> Data:
        """Stores a blob, with a JSON value beside it where given.

        Args:
            chunks: The bytes; they are streamed, hashed on the way, never held.
            metadata: JSON text of the value.
            validator: As in DataInput.
            datatype: Datatype the value must fit.

        Raises:
            Rejected: FF10414 there is no data exchange; FF10238 what arrived is not what was sent.
        """
        if self._exchange is None:
            raise Rejected("FF10414")
        kind = self._validator(validator)
        value = None if metadata is None else _compact(metadata)
        if value == "null":
            value = None
        if datatype is not None:
            await self._check(datatype, kind, value or "null")
        check_text(blob_name(value), "value.name", BLOB_NAME_CHARS_MAX)
        data_id = new_uuid()
        digest = hashlib.sha256()

        async def hashed() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                digest.update(chunk)
                yield chunk

        call = CallKey(f"{self._namespace}:blob:{data_id}", self._namespace)
        payload_ref, blob_hash, size = await self._exchange.upload_blob(call, data_id, hashed())
        try:
            if digest.hexdigest() != blob_hash:
                raise Rejected("FF10238", digest.hexdigest(), blob_hash)
            row = self._blob_row(data_id, kind, value, datatype, blob_hash, size)
            blob = Blob(self._namespace, data_id, blob_hash, payload_ref, size, row.created)
            async with self._store.write(self._namespace) as tx:
                await tx.insert_data([row], [blob])
        except BaseException:
            await self._exchange.delete_blob(
                CallKey(f"{call.key}:undo", self._namespace), payload_ref
            )
            raise
        return row

    def _blob_row(
        self,
        data_id: Uuid,
        validator: Validator,
        value: str | None,
        datatype: DatatypeRef | None,
        blob: Hash32,
        size: int,
    ) -> Data:
        name = blob_name(value)
        return Data(
            id=data_id,
            validator=validator,
            namespace=self._namespace,
            hash=canonical.data_hash(value, blob),
            created=self._clock.now(),
            value=value,
            datatype=datatype,
            blob=BlobRef(hash=blob, size=size, name=name, path=blob_path(name)),
        )

    async def get(self, data_id: Uuid, missing: str = "FF10143") -> Data:
        """Finds a data item.

        Raises:
            NotFound: with the code given, there is none.
        """
        async with self._store.read(self._namespace) as reader:
            row = (await reader.data([data_id])).get(data_id)
        if row is None:
            raise NotFound(missing)
        return row

    async def blob(self, data_id: Uuid) -> Blob:
        """Finds the blob of a data item.

        Raises:
            NotFound: FF10143 no such item, FF10241 it has no blob, FF10239 its blob is not here
                (yet).
        """
        row = await self.get(data_id)
        if row.blob is None:
            raise NotFound("FF10241")
        async with self._store.read(self._namespace) as reader:
            blob = (await reader.blobs([data_id])).get(data_id)
        if blob is None:
            raise NotFound("FF10239", row.blob.hash)
        return blob

    def download(self, blob: Blob) -> AsyncIterator[bytes]:
        """Streams a blob's bytes."""
        if self._exchange is None:
            raise Rejected("FF10414")
        return self._exchange.download_blob(blob.payload_ref)

    async def sub_paths(self, parent: str) -> list[str]:
        """Folders of named blobs below a folder, at any depth, in alphabetical order.

        At most `SUB_PATHS_MAX`; whoever has more asks below them.

        Args:
            parent: With or without a slash at its beginning or end; empty for the root, of which the
                answer has the root itself, too, when blobs are in it.
        """
        check_text(parent, "parent")
        folder = parent.strip("/")
        async with self._store.read(self._namespace) as reader:
            return await reader.blob_paths(f"/{folder}" if folder else "", SUB_PATHS_MAX)

    async def delete(self, data_id: Uuid) -> None:
        """Deletes a data item and its blob.

        The row goes first: a crash leaves an orphan file, never a dangling row.

        Raises:
            NotFound: FF10143.
            Conflict: FF19020, a message that is not decided yet carries it: it could not be sent, or
                not be decided, without.
        """
        await self.get(data_id)
        async with self._store.write(self._namespace) as tx:
            message = await tx.undecided_message_of(data_id)
            if message is not None:
                raise Conflict("FF19020", data_id, message)
            blob = await tx.delete_data(data_id)
        if blob is not None and self._exchange is not None:
            call = CallKey(f"{self._namespace}:blob:{data_id}:delete", self._namespace)
            await self._exchange.delete_blob(call, blob.payload_ref)

    async def datatype(self, ref: DatatypeRef) -> Datatype:
        """Finds a datatype.

        Raises:
            Rejected: FF10195, it is not defined here.
        """
        known = self._datatypes.get((ref.name, ref.version))
        if known is None:
            async with self._store.read(self._namespace) as reader:
                known = await reader.datatype(ref.name, ref.version)
            if known is None:
                raise Rejected("FF10195", f"{ref.name}/{ref.version}")
            if len(self._datatypes) >= DATATYPE_CACHE_MAX:
                self._datatypes.clear()
            self._datatypes[ref.name, ref.version] = known
        return known

    async def _check(self, ref: DatatypeRef, validator: Validator, value: str) -> None:
        if not ref.name or not ref.version:
            raise Rejected("FF10195", f"{ref.name}/{ref.version}")
        if validator is Validator.JSON:
            self._schemas.check(await self.datatype(ref), value)

    def _validator(self, text: str) -> Validator:
        if not text:
            return Validator.JSON
        try:
            return Validator(text)
        except ValueError:
            raise Rejected("FF00108", text) from None

    async def _known(self, ids: Sequence[Uuid]) -> dict[Uuid, Data]:
        if not ids:
            return {}
        async with self._store.read(self._namespace) as reader:
            return await reader.data(ids)


def _compact(text: str) -> str:
    try:
        return canonical.compact(text)
    except canonical.InvalidJsonError as failure:
        raise Rejected("FF19001", failure) from failure
