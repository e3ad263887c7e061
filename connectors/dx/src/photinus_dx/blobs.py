"""Blobs on the disk: streamed, hashed while written, whole or not there.

A blob is written to a partial file, synced, and moved to the place its reference names. The store knows it before it is
moved and calls it stored after, so that a crash at any point leaves either the blob or something the next start sweeps.
References look like paths but are parsed, never joined: each part is checked by its own rule and encoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar, cast
from urllib.parse import quote

from photinus_sdk.errors import Conflict, NotFound, Rejected

from photinus_dx.errors import PeerRefusal
from photinus_dx.model import PeerId, Scope
from photinus_dx.store_blobs import BlobIndex, StoredBlob

R = TypeVar("R")

BUFFER_BYTES = 1024 * 1024
IO_THREADS = 4
ENCODED_NAME_MAX = 200


class BlobStore:
    """The blobs of one instance, own and received."""

    def __init__(self, folder: Path, store: BlobIndex, *, max_bytes: int) -> None:
        self._blobs = folder / "blobs"
        self._partial = folder / "partial"
        self._store = store
        self._max_bytes = max_bytes
        self._pool = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="dx-blob")
        self._uploading: set[str] = set()
        self._receiving: set[str] = set()

    async def open(self, partial_retention_s: float) -> None:
        """Make the folders and sweep what broken uploads and crashes left."""
        await self._run(self._make_folders)
        for payload_ref in await self._store.unconfirmed_blobs():
            await self._run(self._path(payload_ref).unlink, True)
            await self._store.forget_blob(payload_ref)
        await self.sweep(partial_retention_s, at_start=True)

    async def sweep(self, partial_retention_s: float, *, at_start: bool = False) -> None:
        """Delete interrupted transfers that nobody resumed in time; at the start also broken uploads."""
        await self._run(self._sweep, time.time() - partial_retention_s, at_start)

    async def aclose(self) -> None:
        """Wait for the disk."""
        await asyncio.to_thread(self._pool.shutdown)

    async def upload(self, scope: Scope, data_id: str, chunks: AsyncIterator[bytes]) -> StoredBlob:
        """Store an own blob. The same bytes under the same id again give the same answer.

        Raises:
            Conflict: KEY_REUSED when the id has other bytes.
            Rejected: BLOB_TOO_LARGE.
        """
        payload_ref = own_ref(scope, data_id)
        if payload_ref in self._uploading:
            raise Conflict(f"The blob {data_id} is being uploaded already", reason="IN_PROGRESS")
        self._uploading.add(payload_ref)
        try:
            async with PartialFile(
                self._partial / f"upload-{uuid.uuid4()}", self._pool, self._max_bytes
            ) as partial:
                async for chunk in chunks:
                    if not await partial.write(chunk):
                        raise Rejected(
                            f"The blob has more than {self._max_bytes} bytes",
                            reason="BLOB_TOO_LARGE",
                        )
                digest, size = await partial.finish()
                known = await self._store.blob(payload_ref)
                if known is not None and (known.hash, known.size) != (digest, size):
                    raise Conflict(f"The data item {data_id} has another blob", reason="KEY_REUSED")
                blob = StoredBlob(payload_ref, digest, size)
                if not await self._store.reserve_blob(blob):
                    await self._move(partial, payload_ref)
                    await self._store.confirm_blob(payload_ref)
                return blob
        finally:
            self._uploading.discard(payload_ref)

    @contextlib.asynccontextmanager
    async def receive(
        self, sender: PeerId, network: str, data_id: str, item_id: str
    ) -> AsyncIterator[PartialFile]:
        """A partial file for a peer's blob; kept for resumption when the item has an id, else removed.

        Raises:
            Conflict: IN_PROGRESS when the same transfer is under way on another connection.
        """
        name = _partial_name(sender, network, data_id, item_id)
        if name in self._receiving:
            raise Conflict(f"The blob {data_id} is being received already", reason="IN_PROGRESS")
        self._receiving.add(name)
        try:
            async with PartialFile(
                self._partial / name, self._pool, self._max_bytes, keep=bool(item_id)
            ) as partial:
                yield partial
        finally:
            self._receiving.discard(name)

    async def received_so_far(
        self, sender: PeerId, network: str, data_id: str, item_id: str
    ) -> int:
        """Bytes of an interrupted transfer that are here."""
        path = self._partial / _partial_name(sender, network, data_id, item_id)

        def size() -> int:
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return 0

        return await self._run(size)

    async def place_received(
        self, partial: PartialFile, sender: PeerId, network: str, data_id: str
    ) -> StoredBlob:
        """Move a complete, synced file to its place. It is not readable until the store confirms it."""
        digest, size = await partial.finish()
        blob = StoredBlob(received_ref(sender, network, data_id, digest), digest, size)
        if not await self._store.reserve_blob(blob):
            await self._move(partial, blob.payload_ref)
        else:
            await partial.discard()
        return blob

    async def drop_unconfirmed(self, payload_ref: str) -> None:
        """Remove a placed file that was not taken in; one that was confirmed before stays."""
        if await self._store.blob(payload_ref) is None:
            await self.delete(payload_ref)

    async def find(self, payload_ref: str) -> StoredBlob:
        """A stored blob.

        Raises:
            NotFound: UNKNOWN_BLOB.
        """
        blob = await self._store.blob(payload_ref)
        if blob is None:
            raise NotFound(f"There is no blob {payload_ref!r}", reason="UNKNOWN_BLOB")
        return blob

    async def read(self, blob: StoredBlob, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a blob from `offset`, in pieces of at most 1 MiB.

        Raises:
            NotFound: UNKNOWN_BLOB, its file is gone.
        """
        ref = blob.payload_ref
        try:
            file = await _opened(self._pool, self._path(ref), "rb")
        except FileNotFoundError as error:
            raise NotFound(f"The file of {ref!r} is gone", reason="UNKNOWN_BLOB") from error
        try:
            await self._run(file.seek, offset)
            while chunk := await self._read_some(file):
                yield chunk
        finally:
            file.close()

    async def delete(self, payload_ref: str) -> bool:
        """Delete a blob; False when there is none. Idempotent."""
        if not await self._store.forget_blob(payload_ref):
            return False
        await self._run(self._path(payload_ref).unlink, True)
        return True

    async def _move(self, partial: PartialFile, payload_ref: str) -> None:
        await self._run(_rename_durably, partial.path, self._path(payload_ref))
        partial.moved()

    def _path(self, payload_ref: str) -> Path:
        # Every reference in the store was made by own_ref or received_ref, whose parts are safe names.
        return self._blobs.joinpath(*payload_ref.split("/"))

    def _make_folders(self) -> None:
        for folder in (self._blobs, self._partial):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _sweep(self, before: float, at_start: bool) -> None:
        for path in self._partial.iterdir():
            broken_upload = at_start and path.name.startswith("upload-")
            # What ended meanwhile took its own file away.
            with contextlib.suppress(FileNotFoundError):
                if broken_upload or (
                    path.name not in self._receiving and path.stat().st_mtime < before
                ):
                    path.unlink()

    async def _read_some(self, file: BinaryIO) -> bytes:
        return await self._run(file.read, BUFFER_BYTES)

    async def _run(self, function: Callable[..., R], *arguments: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


class PartialFile:
    """A file being written, hashed as it grows. Leaving the context removes it unless it was moved or is kept.

    Args:
        path: where to write.
        pool: threads that touch the disk.
        max_bytes: largest size.
        keep: leave an incomplete file behind, to be resumed.
    """

    def __init__(
        self, path: Path, pool: ThreadPoolExecutor, max_bytes: int, *, keep: bool = False
    ) -> None:
        self.path = path
        self.size = 0
        self._pool = pool
        self._max_bytes = max_bytes
        self._keep = keep
        self._hash = hashlib.sha256()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._file: BinaryIO | None = None
        self._moved = False

    async def __aenter__(self) -> Self:
        self._file = await _opened(self._pool, self.path, "ab" if self._keep else "xb")
        return self

    async def __aexit__(self, *_: object) -> None:
        # Bounded work on the disk; a cancelled transfer must not leave its file open or behind.
        await asyncio.shield(self._run(self._close))

    async def resume(self, offset: int) -> None:
        """Go on behind the first `offset` bytes, which are read again for the hash.

        Raises:
            PeerRefusal: 409 WRONG_OFFSET when there are fewer.
        """
        self.size = await self._run(self._rehash, offset)
        if self.size != offset:
            raise PeerRefusal(
                409, "WRONG_OFFSET", f"{self.size} bytes are here, not {offset}; ask again"
            )

    async def write(self, chunk: bytes) -> bool:
        """Append bytes; False, and nothing written, when the file would become too large."""
        if self.size + self._buffered + len(chunk) > self._max_bytes:
            return False
        self._buffer.append(chunk)
        self._buffered += len(chunk)
        if self._buffered >= BUFFER_BYTES:
            await self._run(self._flush)
        return True

    async def finish(self) -> tuple[str, int]:
        """Write the rest and sync it; gives SHA-256 in hex and size."""
        await self._run(self._sync)
        return self._hash.hexdigest(), self.size

    async def discard(self) -> None:
        """Remove the file even if it was to be kept: what it holds is of no use."""
        self._keep = False
        await self._run(self._close)

    def moved(self) -> None:
        """The file has another name now and stays."""
        self._moved = True

    def _rehash(self, offset: int) -> int:
        assert self._file is not None
        self._hash = hashlib.sha256()
        size = 0
        with self.path.open("rb") as file:
            while size < offset and (chunk := file.read(min(BUFFER_BYTES, offset - size))):
                self._hash.update(chunk)
                size += len(chunk)
        if size == offset:
            self._file.truncate(offset)
        return size

    def _flush(self) -> None:
        assert self._file is not None
        for chunk in self._buffer:
            self._file.write(chunk)
            self._hash.update(chunk)
        self.size += self._buffered
        self._buffer, self._buffered = [], 0

    def _sync(self) -> None:
        assert self._file is not None
        self._flush()
        self._file.flush()
        os.fsync(self._file.fileno())

    def _close(self) -> None:
        if self._file is not None:
            if self._keep and not self._moved:
                self._flush()
                self._file.flush()
                # Nothing to resume.
                self._keep = os.fstat(self._file.fileno()).st_size > 0
            self._file.close()
            self._file = None
        if not self._moved and not self._keep:
            self.path.unlink(missing_ok=True)

    async def _run(self, function: Callable[..., R], *arguments: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


async def _opened(pool: ThreadPoolExecutor, path: Path, mode: str) -> BinaryIO:
    """Opens a file beside the event loop; whoever is cancelled meanwhile leaves nothing open."""
    opening: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(pool, path.open, mode)
    try:
        return cast("BinaryIO", await asyncio.shield(opening))
    except asyncio.CancelledError:
        opening.add_done_callback(lambda done: done.exception() or done.result().close())
        raise


def own_ref(scope: Scope, data_id: str) -> str:
    """Reference of an uploaded blob."""
    return f"own/{_encoded(scope.cluster_id)}/{_encoded(scope.namespace)}/{data_id}"


def received_ref(sender: PeerId, network: str, data_id: str, digest: str) -> str:
    """Reference of a peer's blob. It names the hash, so that no later transfer can replace the bytes."""
    return f"received/{_encoded(sender.text)}/{network}/{data_id}/{digest}"


def _encoded(text: str) -> str:
    # Percent-encoding leaves dots alone; a leading one could mean a folder above.
    name = quote(text, safe="")
    if len(name) > ENCODED_NAME_MAX:
        name = f"{name[:80]}%{hashlib.sha256(text.encode()).hexdigest()}"
    return "%2E" + name[1:] if name.startswith(".") else name or "%"


def _partial_name(sender: PeerId, network: str, data_id: str, item_id: str) -> str:
    if not item_id:
        return f"upload-{uuid.uuid4()}"
    text = f"{sender.text}\n{network}\n{data_id}\n{item_id}"
    return f"peer-{hashlib.sha256(text.encode()).hexdigest()}"


def _rename_durably(source: Path, target: Path) -> None:
    created = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    source.replace(target)
    for folder in (target.parent, *(folder.parent for folder in created)):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
