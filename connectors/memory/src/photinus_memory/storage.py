# ruff: noqa: ARG002 - the kit's interface: request and call, used or not
"""The shared storage contract: files by the identifiers IPFS would give them, one storage for all members."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from photinus.connector.v1 import shared_storage_pb2 as pb
from photinus_sdk import CallContext, Corrupted, NotFound, Refused, Rejected, SharedStorage

from photinus_memory.cids import reference_of
from photinus_memory.facts import Pinned, Stored
from photinus_memory.member import Member, MemorySettings


class MemoryStorage(Member, SharedStorage[MemorySettings]):
    """Bytes in, the same bytes out."""

    async def upload(
        self, header: pb.UploadHeader, chunks: AsyncIterator[bytes], call: CallContext
    ) -> pb.UploadResponse:
        content = b"".join([chunk async for chunk in chunks])
        self.world.check_room(len(content))
        reference = await _reference(content)
        self.world.record(Stored(reference, content, self.settings.member))
        return pb.UploadResponse(payload_ref=reference, size=len(content))

    async def download(
        self, request: pb.DownloadRequest, call: CallContext
    ) -> AsyncIterator[bytes]:
        content = self._file(request.payload_ref)
        if request.max_bytes and len(content) > request.max_bytes:
            raise Refused(
                f"{request.payload_ref} has {len(content)} bytes, more than {request.max_bytes}",
                reason="PAYLOAD_TOO_LARGE",
            )
        if request.offset > len(content):
            raise Rejected("The offset is behind the end", reason="INVALID_OFFSET")
        if await _reference(content) != request.payload_ref:
            raise Corrupted(f"What is kept as {request.payload_ref} has another hash")
        yield content[request.offset :]

    async def pin(self, request: pb.PinRequest, call: CallContext) -> pb.PinResponse:
        self._file(request.payload_ref)
        return pb.PinResponse(replayed=not self._keep(request.payload_ref, kept=True))

    async def unpin(self, request: pb.UnpinRequest, call: CallContext) -> pb.UnpinResponse:
        return pb.UnpinResponse(replayed=not self._keep(request.payload_ref, kept=False))

    def _keep(self, reference: str, *, kept: bool) -> bool:
        """Whether that was a change."""
        member = self.settings.member
        if ((reference, member) in self.world.kept) == kept:
            return False
        self.world.record(Pinned(reference, member, kept))
        return True

    def _file(self, reference: str) -> bytes:
        if reference not in self.world.files:
            raise NotFound(f"Nobody stored {reference[:200]!r}", reason="UNKNOWN_PAYLOAD")
        return self.world.files[reference]


THREAD_BYTES = 1 << 20
"""From here on the hash of a file is worth a thread."""


async def _reference(content: bytes) -> str:
    if len(content) < THREAD_BYTES:
        return reference_of(content)
    return await asyncio.to_thread(reference_of, content)
