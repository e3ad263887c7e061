"""Requests to one peer. Every failure is a PeerFailure that says whether trying again can help."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

import aiohttp
import msgspec
from photinus_sdk.errors import NotFound

from photinus_dx.errors import FINAL_STATUSES, PeerFailure
from photinus_dx.model import Outgoing, Peer
from photinus_dx.settings import Delivery
from photinus_dx.store_blobs import StoredBlob
from photinus_dx.wire import (
    BATCH_CONTENT_TYPE,
    BATCH_PATH,
    BLOBS_PATH,
    EXTENSIONS_HEADER,
    HASH_HEADER,
    ITEM_HEADER,
    MESSAGE_FIELD,
    MESSAGES_PATH,
    OFFSET_HEADER,
    PING_PATH,
    RECEIPTS_PATH,
    RECIPIENT_FIELD,
    SENDER_FIELD,
    SIZE_HEADER,
    BatchItem,
    ItemResult,
    ReceiptRecord,
    encode_batch,
    encode_form,
    file_form,
)

ANSWER_BYTES_MAX = 256 * 1024
ERROR_CHARS_MAX = 500
RETRY_AFTER_MAX_S = 300.0
CONNECTIONS_PER_PEER = 4
KEEPALIVE_S = 60.0
PIECE_BYTES = 256 * 1024
EXTENSIONS_VALID_S = 60.0
RECEIVED_STATUSES = frozenset({200, 201, 202, 204})

_results_decoder = msgspec.json.Decoder(list[ItemResult])

ReadBlob = Callable[[StoredBlob, int], AsyncIterator[bytes]]


class PeerClient:
    """Connections to one peer, kept alive between requests. Use from one event loop."""

    def __init__(self, peer: Peer, context: ssl.SSLContext, delivery: Delivery) -> None:
        self.peer = peer
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context, limit=CONNECTIONS_PER_PEER, keepalive_timeout=KEEPALIVE_S
            ),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=delivery.connect_timeout_s,
                sock_read=delivery.request_timeout_s,
            ),
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._request_timeout_s = delivery.request_timeout_s + delivery.connect_timeout_s
        self._extensions: frozenset[str] = frozenset()
        self._asked_at: float | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def extensions(self) -> frozenset[str]:
        """What the peer knows beyond FireFly's protocol; asked again after failures and from time to time.

        Raises:
            PeerFailure: it does not answer.
        """
        now = asyncio.get_running_loop().time()
        if self._asked_at is None or now - self._asked_at > EXTENSIONS_VALID_S:
            async with self._request("HEAD", PING_PATH) as response:
                listed = response.headers.get(EXTENSIONS_HEADER, "")
            self._extensions = frozenset(word.strip() for word in listed.split(",") if word.strip())
            self._asked_at = now
        return self._extensions

    async def send_message(self, item: Outgoing) -> None:
        """One message as FireFly sends it; returns when the peer took it."""
        fields = [*_destinations(item), (MESSAGE_FIELD, item.message)]
        body, content_type = encode_form(fields)
        headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
        async with self._request("POST", MESSAGES_PATH, data=_pieces(body), headers=headers):
            pass

    async def send_batch(self, items: Sequence[Outgoing]) -> list[ItemResult]:
        """Several messages in order. The answer may be shorter: the peer stopped at one it cannot take now."""
        body = encode_batch(
            BatchItem(item.item_id, item.sender.node, item.recipient.node, item.message)
            for item in items
        )
        headers = {"Content-Type": BATCH_CONTENT_TYPE, "Content-Length": str(len(body))}
        async with self._request(
            "POST", BATCH_PATH, data=_pieces(body), headers=headers
        ) as response:
            answer = await _answer(response)
        try:
            results = _results_decoder.decode(answer)
        except msgspec.MsgspecError as error:
            raise PeerFailure(f"the answer to a batch cannot be read: {error}") from error
        if not 0 < len(results) <= len(items):
            raise PeerFailure(f"{len(results)} results for a batch of {len(items)}")
        return results

    async def send_receipts(self, records: Sequence[ReceiptRecord]) -> None:
        """What our core has stored; returns when the sender has noted it durably."""
        body = msgspec.json.encode(records)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        async with self._request("POST", RECEIPTS_PATH, data=_pieces(body), headers=headers):
            pass

    async def send_blob(
        self, item: Outgoing, blob: StoredBlob, read: ReadBlob, *, resume: bool
    ) -> None:
        """A blob as FireFly sends it; to a peer that can resume, only what it does not have yet."""
        path = f"{BLOBS_PATH}{item.network}/{item.data_id}"
        headers: dict[str, str] = {}
        offset = 0
        if resume:
            headers = {
                ITEM_HEADER: item.item_id,
                SIZE_HEADER: str(blob.size),
                HASH_HEADER: blob.hash,
            }
            node = {SENDER_FIELD: item.sender.node} if item.sender.node else {}
            async with self._request("HEAD", path, headers=headers, params=node) as response:
                if response.status == 204:  # it has the whole blob already
                    return
                offset = int(response.headers.get(OFFSET_HEADER, "0"))
            if not 0 <= offset <= blob.size:
                raise PeerFailure(f"the peer claims {offset} of {blob.size} bytes")
            headers[OFFSET_HEADER] = str(offset)
        head, tail, content_type = file_form(_destinations(item))
        headers["Content-Type"] = content_type
        headers["Content-Length"] = str(len(head) + blob.size - offset + len(tail))
        body = _Body(head, read(blob, offset), tail, blob.hash if not offset else "")
        try:
            async with self._request("PUT", path, data=body.chunks(), headers=headers, timed=False):
                pass
        except PeerFailure:
            # aiohttp reports a body that broke off as a broken connection.
            if body.failure is not None:
                raise body.failure from None
            raise

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        data: AsyncIterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        timed: bool = True,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        try:
            async with asyncio.timeout(self._request_timeout_s if timed else None):
                async with self._session.request(
                    method,
                    self.peer.endpoint + path,
                    data=data,
                    headers=headers,
                    params=params,
                    allow_redirects=False,
                ) as response:
                    if response.status not in RECEIVED_STATUSES:
                        raise await _refusal(response)
                    yield response
        except PeerFailure as failure:
            if not failure.final:
                self._asked_at = None
            raise
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._asked_at = None
            text = str(error) or type(error).__name__
            raise PeerFailure(f"{self.peer.endpoint}: {text}") from error


class _Body:
    """A blob in its form. A blob that is not what it was stored as is noticed before its last byte leaves.

    Attributes:
        failure: why it can never be sent.
    """

    def __init__(
        self, head: bytes, content: AsyncIterator[bytes], tail: bytes, digest: str
    ) -> None:
        self._head, self._content, self._tail, self._digest = head, content, tail, digest
        self.failure: PeerFailure | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._head
        computed = hashlib.sha256()
        try:
            async for chunk in self._content:
                if self._digest:
                    await asyncio.to_thread(computed.update, chunk)
                yield chunk
        except NotFound as gone:
            self.failure = PeerFailure(gone.message, final=True)
            raise self.failure from gone
        if self._digest and computed.hexdigest() != self._digest:
            self.failure = PeerFailure(
                "the stored blob is damaged: its hash is not what it was", final=True
            )
            raise self.failure
        yield self._tail


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """A body in parts, so that a large one does not hold the event loop up."""
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def _destinations(item: Outgoing) -> list[tuple[str, str]]:
    named = ((SENDER_FIELD, item.sender.node), (RECIPIENT_FIELD, item.recipient.node))
    return [(name, node) for name, node in named if node]


async def _answer(response: aiohttp.ClientResponse) -> bytes:
    """All of an answer, or its first ANSWER_BYTES_MAX bytes; it may come in several pieces."""
    try:
        return await response.content.readexactly(ANSWER_BYTES_MAX)
    except asyncio.IncompleteReadError as whole:
        return whole.partial


async def _refusal(response: aiohttp.ClientResponse) -> PeerFailure:
    answer = (await _answer(response)).decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        answer = str(msgspec.json.decode(answer)["error"])
    pause = response.headers.get("Retry-After", "")
    return PeerFailure(
        f"the peer answered {response.status}: {answer[:ERROR_CHARS_MAX]}",
        final=response.status in FINAL_STATUSES,
        retry_after_s=min(float(pause), RETRY_AFTER_MAX_S) if pause.isdigit() else 0.0,
    )
