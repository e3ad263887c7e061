"""Storage in a Kubo node: files are added by its RPC API and pinned, blocks are read by its gateway or its RPC API.

aioipfs carries the RPC calls that fit it. It answers None where the node is away, wraps files in a payload that newer
aiohttp versions refuse, and leaves connection errors of some calls as aiohttp's; all of that ends here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import aioipfs
from aiohttp import payload
from aioipfs.multi import FormDataWriter
from photinus_sdk import Corrupted, NotFound, Rejected, Unavailable
from yarl import URL

from photinus_ipfs.cid import Cid
from photinus_ipfs.settings import BasicAuthentication, HttpService
from photinus_ipfs.unixfs import DagBuilder

BLOCK_BYTES_MAX = 4 * 1024 * 1024
CONNECTIONS_MAX = 32
CONNECT_TIMEOUT_S = 5.0
ERROR_CHARS_MAX = 500
# What Kubo does by default, said explicitly: a node may be configured otherwise, and members must agree on names.
ADD_PARAMETERS = {
    "pin": "true",
    "cid-version": "0",
    "raw-leaves": "false",
    "chunker": "size-262144",
    "hash": "sha2-256",
    "progress": "false",
}
_NOT_HELD = ("not found", "could not find", "no providers found")
_CONNECTION_ERRORS = (aiohttp.ClientError, aioipfs.IPFSConnectionError, TimeoutError, OSError)


_BlockRequest = contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]


class KuboStorage:
    """Storage in a Kubo node. Use from one event loop."""

    def __init__(
        self, api: HttpService, gateway: HttpService | None, *, timeout_s: float, max_bytes: int
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._api, self._api_auth = URL(api.url), _authentication(api.auth)
        self._gateway = URL(gateway.url) if gateway else None
        self._gateway_auth = _authentication(gateway.auth if gateway else None)
        self._node = aioipfs.AsyncIPFS(
            host=self._api.host,
            port=self._api.port,
            scheme=self._api.scheme,
            auth=self._api_auth,
            conns_max=CONNECTIONS_MAX,
            conns_max_per_host=CONNECTIONS_MAX,
            read_timeout=timeout_s,
        )
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
        )

    async def check(self) -> str:
        """Why the node cannot be used now; empty when it can."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                version = await self._node.core.version()
        except (*_CONNECTION_ERRORS, aioipfs.APIError, aioipfs.RPCAccessDenied) as error:
            return f"the node does not answer: {error or type(error).__name__}"
        # aioipfs gives None, not an error, when nothing listens.
        return "" if version and version.get("Version") else "the node does not answer"

    async def add(self, chunks: AsyncIterator[bytes]) -> tuple[Cid, int]:
        """Store and pin a file; gives identifier and size. A broken upload pins nothing."""
        upload = _Upload(chunks, self._max_bytes)
        with FormDataWriter() as form:
            part = payload.AsyncIterablePayload(
                upload.pieces(), content_type="application/octet-stream"
            )
            part.set_content_disposition("form-data", name="file", filename="payload")
            form.append_payload(part)
        try:
            async with _translated("add"):
                answer = await self._node.core.add_single(form, params=ADD_PARAMETERS)
        except Unavailable:
            # aiohttp reports a body that broke off as a broken connection.
            if upload.error is not None:
                raise upload.error from None
            raise
        if upload.error is not None:
            raise upload.error
        root = upload.builder.finish()
        if answer.get("Hash") != str(root):
            raise Corrupted(f"The node stored {answer.get('Hash')!r} for bytes that are {root}")
        return root, upload.builder.size

    def reader(self, _root: Cid) -> _KuboReader:
        """Access to the blocks of one file."""
        return _KuboReader(self)

    async def pin(self, root: Cid) -> bool:
        """Keep a file and all below it; False when it was kept before.

        Raises:
            NotFound: UNKNOWN_PAYLOAD.
            Unavailable: the node is away, or nobody gave it the bytes in time.
        """
        if await self._pinned(root):
            return False
        async with _translated("pin", self._timeout_s):
            done = [entry async for entry in self._node.pin.add(str(root), progress=False)]
        if not any(str(root) in entry.get("Pins", ()) for entry in done):
            raise Unavailable(f"The node did not pin {root}: {done!r}"[:ERROR_CHARS_MAX])
        return True

    async def unpin(self, root: Cid) -> bool:
        """Keep it no longer; False when it was not kept."""
        try:
            async with _translated("unpin", self._timeout_s):
                answer = await self._node.pin.rm(str(root))
        except _NotPinned:
            return False
        _answered(answer)
        return True

    async def aclose(self) -> None:
        """Close the connections."""
        await self._node.close()
        await self._http.close()

    async def block(self, cid: Cid) -> bytes:
        """One raw block, unchecked.

        Raises:
            NotFound: UNKNOWN_PAYLOAD.
            Unavailable: the node is away, or nobody gave it the block in time.
        """
        # Not by aioipfs: it takes the text of a proxy's 502 for the block.
        async with _translated("block/get"), self._block_request(cid) as response:
            block = await response.content.read(BLOCK_BYTES_MAX + 1)
            while len(block) <= BLOCK_BYTES_MAX and (
                more := await response.content.read(BLOCK_BYTES_MAX + 1 - len(block))
            ):
                block += more
            if response.status == 200:
                return block
            text = block[:ERROR_CHARS_MAX].decode(errors="replace")
            raise _refusal("block/get", response.status, text)

    def _block_request(self, cid: Cid) -> _BlockRequest:
        if self._gateway is not None:
            url = (self._gateway / "ipfs" / str(cid)).with_query(format="raw")
            return self._http.get(url, auth=self._gateway_auth, allow_redirects=False)
        url = (self._api / "api" / "v0" / "block" / "get").with_query(arg=str(cid))
        return self._http.post(url, auth=self._api_auth, allow_redirects=False)

    async def _pinned(self, root: Cid) -> bool:
        try:
            async with _translated("pin/ls", self._timeout_s):
                answer = await self._node.pin.ls(str(root), pintype="recursive")
        except _NotPinned:
            return False
        return str(root) in _answered(answer).get("Keys", {})


class _KuboReader:
    def __init__(self, storage: KuboStorage) -> None:
        self._storage = storage

    async def get(self, cid: Cid, _offset: int, _size: int | None) -> bytes:
        return await self._storage.block(cid)

    async def aclose(self) -> None:
        pass


class _Upload:
    """The caller's bytes on their way to the node, named as they pass."""

    def __init__(self, chunks: AsyncIterator[bytes], max_bytes: int) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self.builder = DagBuilder()
        self.error: Exception | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                if self.builder.size + len(chunk) > self._max_bytes:
                    raise Rejected(
                        f"A file may have {self._max_bytes} bytes", reason="PAYLOAD_TOO_LARGE"
                    )
                await asyncio.to_thread(self.builder.add, chunk)
                yield chunk
        except Exception as error:
            self.error = error
            raise


class _NotPinned(Exception):
    pass


@contextlib.asynccontextmanager
async def _translated(call: str, timeout_s: float | None = None) -> AsyncGenerator[None]:
    """The node's errors as the kit's."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except aioipfs.NotPinnedError as error:
        raise _NotPinned from error
    except aioipfs.RPCAccessDenied as error:
        raise Unavailable(f"The node denies {call}: {error}", reason="ACCESS_DENIED") from error
    except aioipfs.APIError as error:
        # Its text is empty: what the node said is in its attributes.
        raise _refusal(call, error.http_status, str(error.message)) from error
    except aioipfs.UnknownAPIError as error:
        raise Unavailable(f"The node's answer to {call} cannot be read") from error
    except _CONNECTION_ERRORS as error:
        raise Unavailable(
            f"The node does not answer ({call}): {str(error) or type(error).__name__}"
        ) from error


def _refusal(call: str, status: int, text: str) -> Exception:
    if "is not pinned" in text:
        return _NotPinned()
    if status == 404 or any(words in text for words in _NOT_HELD):
        return NotFound(f"The node does not have it: {text}", reason="UNKNOWN_PAYLOAD")
    return Unavailable(f"The node refused {call} with {status}: {text}"[:ERROR_CHARS_MAX])


def _answered(answer: Any) -> dict[str, Any]:
    # aioipfs gives None, not an error, when the connection breaks.
    if not isinstance(answer, dict):
        raise Unavailable("The node does not answer")
    return answer


def _authentication(auth: BasicAuthentication | None) -> aiohttp.BasicAuth | None:
    return aiohttp.BasicAuth(auth.username, auth.password.reveal()) if auth else None
