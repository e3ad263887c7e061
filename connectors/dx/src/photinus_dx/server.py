"""The peers' side: an HTTPS server that lets in exactly the registered certificates.

Who sends is read from the client's certificate and never from the body. Nothing here decides what a message means: it
is checked for its form and its limits, made durable, and answered with 204.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import msgspec
from aiohttp import web
from photinus_sdk.errors import Conflict

from photinus_dx.blobs import BlobStore
from photinus_dx.certificates import fingerprint
from photinus_dx.errors import PeerRefusal
from photinus_dx.inbox import Inbox, Outcome
from photinus_dx.model import NAME_FORM, UUID_FORM, Incoming, PeerId, Receipt
from photinus_dx.peers import PeerRegistry
from photinus_dx.settings import Delivery, Limits
from photinus_dx.store import Store
from photinus_dx.wire import (
    BATCH_BYTES,
    BATCH_PATH,
    BLOBS_PATH,
    EXTENSIONS,
    EXTENSIONS_HEADER,
    FORM_OVERHEAD_BYTES,
    HASH_HEADER,
    ITEM_HEADER,
    MESSAGE_FIELD,
    MESSAGES_PATH,
    OFFSET_HEADER,
    PING_PATH,
    RECEIPTS_BYTES_MAX,
    RECEIPTS_MAX,
    RECEIPTS_PATH,
    RECIPIENT_FIELD,
    SENDER_FIELD,
    SIZE_HEADER,
    BatchItem,
    FileForm,
    ItemResult,
    ReceiptRecord,
    blob_place,
    decode_batch,
    decode_form,
    network_of,
)

log = logging.getLogger("photinus.dx.server")

SHUTDOWN_GRACE_S = 2.0
KEEPALIVE_S = (
    120.0  # longer than a peer's pool keeps a connection, so that it is not closed under a request
)
HASH_FORM = re.compile(r"[0-9a-f]{64}")

_receipts_decoder = msgspec.json.Decoder(list[ReceiptRecord])


class PeerServer:
    """Serves the peers' requests on one listening socket."""

    def __init__(
        self,
        store: Store,
        registry: PeerRegistry,
        inbox: Inbox,
        blobs: BlobStore,
        limits: Limits,
        delivery: Delivery,
    ) -> None:
        self._store = store
        self._registry = registry
        self._inbox = inbox
        self._blobs = blobs
        self._limits = limits
        self._delivery = delivery
        self._busy: Counter[str] = Counter()
        self._runner: web.ServerRunner | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve on a bound socket."""
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None, keepalive_timeout=KEEPALIVE_S),
            shutdown_timeout=SHUTDOWN_GRACE_S,
        )
        await self._runner.setup()
        site = web.SockSite(self._runner, listening, ssl_context=self._registry.listening_context())
        await site.start()

    async def aclose(self) -> None:
        """Stop listening and give requests under way a moment."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            shown = self._shown_certificate(request)
            peer = self._registry.proved(shown)
            if not peer:
                raise PeerRefusal(403, "UNKNOWN_CERTIFICATE", "this certificate is not registered")
            with self._place(peer):
                return await self._dispatch(request, shown, peer)
        except PeerRefusal as refusal:
            return _refused(request, refusal)
        except Conflict as conflict:
            return _refused(request, PeerRefusal(409, conflict.reason, conflict.message))
        except ConnectionError as error:
            log.debug("a peer's connection broke: %s", error)
            return web.Response(status=400)  # nobody reads it
        except Exception:
            log.exception("a peer's request failed")
            return _refused(request, PeerRefusal(500, "INTERNAL", "see the log of this exchange"))

    @contextlib.contextmanager
    def _place(self, peer: str) -> Iterator[None]:
        if self._busy[peer] >= self._limits.concurrent_requests_per_peer:
            raise PeerRefusal(
                429, "TOO_MANY_REQUESTS", f"{self._busy[peer]} requests are open", retry_after_s=1
            )
        self._busy[peer] += 1
        try:
            yield
        finally:
            self._busy[peer] -= 1
            if not self._busy[peer]:
                del self._busy[peer]

    @staticmethod
    def _shown_certificate(request: web.BaseRequest) -> str:
        connection = request.get_extra_info("ssl_object")
        der = connection.getpeercert(binary_form=True) if connection is not None else None
        return fingerprint(der) if der else ""

    async def _dispatch(self, request: web.BaseRequest, shown: str, peer: str) -> web.Response:
        path = request.raw_path
        match request.method, path.partition("?")[0]:
            case "HEAD" | "GET", p if p == PING_PATH:
                return web.Response(status=204, headers={EXTENSIONS_HEADER: EXTENSIONS})
            case "POST", p if p == MESSAGES_PATH:
                return await self._message(request, shown, peer)
            case "POST", p if p == BATCH_PATH:
                return await self._batch(request, shown, peer)
            case "POST", p if p == RECEIPTS_PATH:
                return await self._take_receipts(request, peer)
            case "PUT", p if p.startswith(BLOBS_PATH):
                return await self._blob(request, shown, peer)
            case "HEAD", p if p.startswith(BLOBS_PATH):
                return await self._blob_so_far(request, shown, peer)
            case _:
                raise PeerRefusal(404, "UNKNOWN_ROUTE", "data exchanges do not know this route")

    # Messages

    async def _message(self, request: web.BaseRequest, shown: str, peer: str) -> web.Response:
        limit = self._limits.max_message_bytes + FORM_OVERHEAD_BYTES
        body = await _body(request, limit, "MESSAGE_TOO_LARGE", self._delivery.request_timeout_s)
        fields = decode_form(body, request.headers.get("Content-Type", ""))
        if MESSAGE_FIELD not in fields:
            raise PeerRefusal(400, "BAD_FORM", "the form has no message")
        item = BatchItem(
            item_id="",
            sender_node=fields.get(SENDER_FIELD, ""),
            recipient_node=fields.get(RECIPIENT_FIELD, ""),
            message=fields[MESSAGE_FIELD],
        )
        (outcome,) = await self._inbox.take([self._checked(item, shown, peer)], numbered=False)
        if isinstance(outcome, PeerRefusal):
            raise outcome
        return web.Response(status=204)

    async def _batch(self, request: web.BaseRequest, shown: str, peer: str) -> web.Response:
        limit = BATCH_BYTES + 2 * self._limits.max_message_bytes + FORM_OVERHEAD_BYTES
        body = await _body(request, limit, "BATCH_TOO_LARGE", self._delivery.request_timeout_s)
        checked: list[Incoming | PeerRefusal] = []
        for item in decode_batch(body):
            try:
                if not UUID_FORM.fullmatch(item.item_id):
                    raise PeerRefusal(400, "BAD_BATCH", f"{item.item_id!r} is no item id")
                checked.append(self._checked(item, shown, peer))
            except PeerRefusal as refusal:
                checked.append(refusal)
                if not refusal.final:
                    break
        good = [item for item in checked if isinstance(item, Incoming)]
        taken = iter(await self._inbox.take(good, numbered=True))
        results: list[ItemResult] = []
        for entry in checked:
            outcome: Outcome | None = entry if isinstance(entry, PeerRefusal) else next(taken, None)
            if outcome is None:
                break
            results.append(_result(outcome))
            if isinstance(outcome, PeerRefusal) and not outcome.final:
                break
        return web.Response(body=msgspec.json.encode(results), content_type="application/json")

    def _checked(self, item: BatchItem, shown: str, peer: str) -> Incoming:
        text = item.message.encode()
        if len(text) > self._limits.max_message_bytes:
            raise PeerRefusal(
                413,
                "MESSAGE_TOO_LARGE",
                f"{len(text)} bytes are more than {self._limits.max_message_bytes}",
            )
        network = network_of(item.message)
        sender = self._sender(item.sender_node, shown, peer, network)
        node = self._recipient(item.recipient_node, network)
        repeat_key = item.item_id
        if not repeat_key:
            # A peer that does not number its messages repeats them byte for byte.
            parts = (sender.text.encode(), node.encode(), text)
            repeat_key = hashlib.sha256(b"\n".join(parts)).hexdigest()
        return Incoming(
            sender=sender,
            node=node,
            network=network,
            item_id=item.item_id,
            repeat_key=repeat_key,
            message=item.message,
            data_id="",
            hash="",
            size=len(text),
            payload_ref="",
        )

    def _sender(self, node: str, shown: str, peer: str, network: str) -> PeerId:
        if node and not NAME_FORM.fullmatch(node):
            raise PeerRefusal(400, "BAD_DESTINATION", f"{node!r} is no node name")
        sender = PeerId(peer, node)
        if not self._registry.may_speak(shown, network, sender):
            raise PeerRefusal(
                403,
                "NOT_A_MEMBER",
                f"{sender.text} is not registered in network {network!r} with this certificate",
            )
        return sender

    def _recipient(self, node: str, network: str) -> str:
        if node and not NAME_FORM.fullmatch(node):
            raise PeerRefusal(400, "BAD_DESTINATION", f"{node!r} is no node name")
        return self._inbox.destination(network, node)

    # Blobs

    async def _blob_so_far(self, request: web.BaseRequest, shown: str, peer: str) -> web.Response:
        network, data_id = blob_place(request.raw_path.partition("?")[0])
        sender = self._sender(request.query.get(SENDER_FIELD, ""), shown, peer, network)
        item_id, size, _ = self._announced(request)
        if await self._inbox.knows(sender, network, item_id):
            return web.Response(status=204)
        so_far = await self._blobs.received_so_far(sender, network, data_id, item_id)
        if so_far > size:
            so_far = 0
        return web.Response(status=200, headers={OFFSET_HEADER: str(so_far)})

    async def _blob(self, request: web.BaseRequest, shown: str, peer: str) -> web.Response:
        network, data_id = blob_place(request.raw_path)
        numbered = ITEM_HEADER in request.headers
        item_id, size, digest = self._announced(request) if numbered else ("", 0, "")
        offset = _number(request, OFFSET_HEADER) if numbered else 0
        length = request.content_length or 0
        if length > self._limits.max_blob_bytes + FORM_OVERHEAD_BYTES:
            raise self._blob_too_large()
        form = FileForm(
            _chunks(request, self._delivery.request_timeout_s),
            request.headers.get("Content-Type", ""),
        )
        fields = await form.fields()
        sender = self._sender(fields.get(SENDER_FIELD, ""), shown, peer, network)
        node = self._recipient(fields.get(RECIPIENT_FIELD, ""), network)
        self._inbox.check_room(peer, (network, node), size or length, blob=True)
        async with self._blobs.receive(sender, network, data_id, item_id) as partial:
            if numbered:
                await partial.resume(offset)
            async for chunk in form.content():
                if not await partial.write(chunk):
                    await partial.discard()
                    raise self._blob_too_large()
            got, got_size = await partial.finish()
            if numbered and (got, got_size) != (digest, size):
                await partial.discard()
                raise PeerRefusal(
                    409,
                    "HASH_MISMATCH",
                    f"{got_size} bytes with SHA-256 {got} came, {size} with {digest} were announced",
                )
            blob = await self._blobs.place_received(partial, sender, network, data_id)
            item = Incoming(
                sender=sender,
                node=node,
                network=network,
                item_id=item_id,
                repeat_key=item_id or f"{node}\n{blob.payload_ref}",
                message="",
                data_id=data_id,
                hash=blob.hash,
                size=blob.size,
                payload_ref=blob.payload_ref,
            )
            (outcome,) = await self._inbox.take([item], numbered=numbered)
            if isinstance(outcome, PeerRefusal):
                await self._blobs.drop_unconfirmed(blob.payload_ref)
                raise outcome
        return web.Response(status=204)

    def _announced(self, request: web.BaseRequest) -> tuple[str, int, str]:
        item_id = request.headers.get(ITEM_HEADER, "")
        digest = request.headers.get(HASH_HEADER, "")
        size = _number(request, SIZE_HEADER)
        if not UUID_FORM.fullmatch(item_id) or not HASH_FORM.fullmatch(digest):
            raise PeerRefusal(400, "BAD_HEADER", "item id or hash cannot be read")
        if size > self._limits.max_blob_bytes:
            raise self._blob_too_large()
        return item_id, size, digest

    def _blob_too_large(self) -> PeerRefusal:
        return PeerRefusal(
            413, "BLOB_TOO_LARGE", f"a blob may have {self._limits.max_blob_bytes} bytes"
        )

    # Receipts

    async def _take_receipts(self, request: web.BaseRequest, peer: str) -> web.Response:
        body = await _body(
            request, RECEIPTS_BYTES_MAX, "RECEIPTS_TOO_LARGE", self._delivery.request_timeout_s
        )
        try:
            records = _receipts_decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise PeerRefusal(
                400, "BAD_RECEIPTS", f"the receipts cannot be read: {error}"
            ) from error
        if len(records) > RECEIPTS_MAX:
            raise PeerRefusal(400, "BAD_RECEIPTS", f"more than {RECEIPTS_MAX} receipts")
        receipts = [
            Receipt(0, record.item, record.recipient, record.manifest, record.hash)
            for record in records
        ]
        await self._store.settle_receipts(peer, receipts)
        return web.Response(status=204)


def _result(outcome: Outcome) -> ItemResult:
    if isinstance(outcome, PeerRefusal):
        return ItemResult(outcome.status, outcome.reason, str(outcome))
    return ItemResult(204)


def _number(request: web.BaseRequest, header: str) -> int:
    text = request.headers.get(header, "")
    if not re.fullmatch(r"\d{1,18}", text):
        raise PeerRefusal(400, "BAD_HEADER", f"{header} is no number")
    return int(text)


async def _chunks(request: web.BaseRequest, silence_s: float) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(silence_s):
                chunk = await request.content.readany()
        except TimeoutError as error:
            raise PeerRefusal(408, "TOO_SLOW", f"nothing came for {silence_s} s") from error
        if not chunk:
            return
        yield chunk


async def _body(request: web.BaseRequest, limit: int, reason: str, silence_s: float) -> bytes:
    too_large = PeerRefusal(413, reason, f"a body may have {limit} bytes")
    if (request.content_length or 0) > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    async for chunk in _chunks(request, silence_s):
        size += len(chunk)
        if size > limit:
            raise too_large
        parts.append(chunk)
    return b"".join(parts)


def _refused(request: web.BaseRequest, refusal: PeerRefusal) -> web.Response:
    headers = {}
    if refusal.retry_after_s:
        headers["Retry-After"] = str(refusal.retry_after_s)
    response = web.Response(
        status=refusal.status,
        body=msgspec.json.encode({"error": f"{refusal.reason}: {refusal}"}),
        content_type="application/json",
        headers=headers,
    )
    if refusal.status == 403 or not request.content.is_eof():
        # What is left of the body is not worth reading, and a stranger has nothing more to say.
        response.force_close()
    return response
