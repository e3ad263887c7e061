"""The shared-storage contract over Kubo or a directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import shared_storage_pb2 as pb
from photinus_sdk import CallContext, Refused, SharedStorage, finding

from photinus_ipfs.directory import DirectoryStorage
from photinus_ipfs.settings import IpfsSettings
from photinus_ipfs.storage import Storage, parse_reference, read_file

CHECK_EVERY_S = 10.0
CHECK_WHEN_DOWN_S = 2.0


class IpfsConnector(
    SharedStorage[IpfsSettings],
    name="ipfs",
    version="0.1.0",
    vendor="Photinus",
    stability=connector.STABILITY_BETA,
    multi_instance=True,
    capabilities=(connector.CAPABILITY_RESUME,),
):
    """Stores files under their IPFS names and checks what it reads against them."""

    _storage: Storage
    _max_bytes: int

    @classmethod
    async def validate(cls, settings: IpfsSettings) -> Iterable[common.Diagnostic]:
        """Findings that involve more than one setting."""
        found = []
        if settings.api and settings.directory:
            found.append(finding("api and directory exclude each other; remove one", "/directory"))
        if settings.gateway and not settings.api:
            found.append(finding("A gateway alone cannot store files; give api too", "/gateway"))
        return found

    async def start(self, settings: IpfsSettings) -> None:
        self._max_bytes = settings.max_payload_bytes
        if settings.api is not None:
            # aioipfs takes a second and 30 MB to import, which the embedded storage does without.
            from photinus_ipfs.kubo import KuboStorage  # noqa: PLC0415 - see above

            self._storage = KuboStorage(
                settings.api,
                settings.gateway,
                timeout_s=settings.request_timeout_s,
                max_bytes=self._max_bytes,
            )
        else:
            folder = settings.directory or self.instance.data_dir / "store"
            directory = DirectoryStorage(
                folder, self.instance.journal.store_id, max_bytes=self._max_bytes
            )
            try:
                await directory.open()
            except OSError as error:
                await directory.aclose()
                raise Refused(
                    f"The directory {folder} cannot be used: {error}", reason="INVALID_CONFIG"
                ) from error
            self._storage = directory
        await self._report()

    async def run(self) -> None:
        """Looks after the storage's health."""
        while True:
            down = await self._report()
            await asyncio.sleep(CHECK_WHEN_DOWN_S if down else CHECK_EVERY_S)

    async def stop(self) -> None:
        if hasattr(self, "_storage"):
            await self._storage.aclose()

    async def upload(
        self,
        header: pb.UploadHeader,  # noqa: ARG002 - the kit's interface
        chunks: AsyncIterator[bytes],
        call: CallContext,  # noqa: ARG002 - the kit's interface
    ) -> pb.UploadResponse:
        root, size = await self._storage.add(chunks)
        return pb.UploadResponse(payload_ref=str(root), size=size)

    async def download(
        self,
        request: pb.DownloadRequest,
        call: CallContext,  # noqa: ARG002 - the kit's interface
    ) -> AsyncIterator[bytes]:
        limits = [limit for limit in (request.max_bytes, self._max_bytes) if limit]
        async for chunk in read_file(
            self._storage,
            parse_reference(request.payload_ref),
            offset=request.offset,
            max_bytes=min(limits),
        ):
            yield chunk

    async def pin(self, request: pb.PinRequest, call: CallContext) -> pb.PinResponse:  # noqa: ARG002 - the kit's interface
        changed = await self._storage.pin(parse_reference(request.payload_ref))
        return pb.PinResponse(replayed=not changed)

    async def unpin(self, request: pb.UnpinRequest, call: CallContext) -> pb.UnpinResponse:  # noqa: ARG002 - the kit's interface
        changed = await self._storage.unpin(parse_reference(request.payload_ref))
        return pb.UnpinResponse(replayed=not changed)

    async def _report(self) -> str:
        why = await self._storage.check()
        state = connector.RUNTIME_STATE_DEGRADED if why else connector.RUNTIME_STATE_OK
        self.instance.report(state, why)
        return why
