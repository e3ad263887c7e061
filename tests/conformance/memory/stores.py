"""DataExchangeService and SharedStorageService of the connector in memory."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import data_exchange_pb2 as exchange
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import shared_storage_pb2 as storage

from tests.conformance.memory.calls import Calls, arguments_of
from tests.conformance.memory.refusals import Refused, invalid, not_found, precondition
from tests.conformance.memory.world import (
    SUCCEEDED,
    Operation,
    Received,
    Scope,
    Store,
    scope_of,
)

CHUNK_BYTES = 1 << 20
MESSAGE_BYTES_MAX = 1 << 20


class Uploads:
    """What both contracts do with a stream of chunks."""

    def __init__(self, calls: Calls) -> None:
        self.calls, self.world = calls, calls.world

    async def take(
        self, frames: AsyncIterator[Any], context: Any, method: str, keep: Callable[..., Any]
    ) -> Any:
        """Reads an upload to its end; `keep(header, content, store)` stores it."""
        has = self.world.has
        first = await anext(aiter(frames), None)
        if first is None or first.WhichOneof("frame") != "header":
            raise invalid("HEADER_MISSING", "the first frame must be the header")
        scope = self.calls.check(context, first.header.context, method)
        store, key = self.calls.store(context), first.header.context.idempotency_key
        if has("broken-upload-keeps-key"):
            if (scope, key) in store.operations:
                raise Refused(grpc.StatusCode.ALREADY_EXISTS, "KEY_REUSED", "half of it is here")
            store.operations[scope, key] = Operation(key, method, b"")
        content, ended = await self.content(frames)
        if not ended and not has("upload-without-end"):
            raise invalid("UPLOAD_INCOMPLETE", "it broke off")
        arguments = arguments_of(first.header) + hashlib.sha256(content).digest()
        found = None
        if not has("upload-key-ignored") and not has("broken-upload-keeps-key"):
            found = self.calls.known(store, scope, key, method, arguments)
        if found is not None:
            return found.answer
        answer = keep(first.header, content, store)
        raw = answer.SerializeToString()
        store.operations[scope, key] = Operation(key, method, arguments, raw, SUCCEEDED)
        return answer

    async def content(self, frames: AsyncIterator[Any]) -> tuple[bytes, bool]:
        content = b""
        async for frame in frames:
            match frame.WhichOneof("frame"):
                case "end":
                    return content, frame.end.size == len(content)
                case "chunk" if len(frame.chunk) <= CHUNK_BYTES:
                    content += frame.chunk
                case _ if self.world.has("two-headers"):
                    pass
                case _:
                    raise invalid("BAD_FRAME", "a second header, or a chunk that is too large")
        return content, False

    def pieces(self, content: bytes) -> list[bytes]:
        size = 3 * CHUNK_BYTES if self.world.has("large-chunks") else CHUNK_BYTES
        return [content[at : at + size] for at in range(0, len(content), size)]


class DataExchange:
    """Members of one process send to each other through the world."""

    def __init__(self, calls: Calls) -> None:
        self.calls, self.world = calls, calls.world
        self.uploads = Uploads(calls)

    async def GetEndpoint(self, request: Any, context: Any) -> exchange.GetEndpointResponse:
        name = self.calls.instance_of(context)
        peer_id = f"{name}/{request.node_name}" if request.node_name else name
        endpoint = f"memory://{name}"
        if self.world.has("endpoint-changes"):
            endpoint += f"/{next(self.world.numbers)}"
        document = {"id": peer_id, "endpoint": endpoint, "cert": ""}
        return exchange.GetEndpointResponse(peer_json=json.dumps(document), peer_id=peer_id)

    async def AddPeer(self, request: Any, context: Any) -> Any:
        peer = json.loads(request.peer_json)

        def effect(store: Store, scope: Scope) -> exchange.AddPeerResponse:
            place = (*scope[:2], peer["id"])
            known = store.peers.get(place) == request.peer_json
            store.peers[place] = request.peer_json
            if self.world.has("peer-never-known"):
                known = False
            return exchange.AddPeerResponse(replayed=known)

        return self.calls.change(context, request, "AddPeer", effect)

    async def RemovePeer(self, request: Any, context: Any) -> Any:
        def effect(store: Store, scope: Scope) -> exchange.RemovePeerResponse:
            place = (*scope[:2], request.peer_id)
            known = place in store.peers
            if not self.world.has("removed-peer-kept") or not known:
                store.peers.pop(place, None)
            return exchange.RemovePeerResponse(replayed=not known)

        return self.calls.change(context, request, "RemovePeer", effect)

    async def SendMessage(self, request: Any, context: Any) -> Any:
        size = len(request.message.encode())
        if size > MESSAGE_BYTES_MAX and not self.world.has("any-message-size"):
            raise invalid("MESSAGE_TOO_LARGE", "too large")
        text = request.message
        if self.world.has("text-reencoded"):
            text = json.dumps(json.loads(text))
        message = events.MessageReceived(
            sender=request.sender, recipient=request.recipient, message=text
        )
        message.received.GetCurrentTime()
        network = json.loads(text)["batch"]["namespace"]
        event = events.Event(message_received=message)
        done = await self._send(request, context, "SendMessage", network, event)
        return exchange.SendMessageResponse(submission=done)

    async def SendBlob(self, request: Any, context: Any) -> Any:
        content = self.calls.store(context).blobs.get(request.payload_ref)
        if content is None:
            raise not_found("UNKNOWN_BLOB", "no such blob")
        blob = events.BlobReceived(
            sender=request.sender,
            recipient=request.recipient,
            network_namespace=request.network_namespace,
            data_id=request.data_id,
            hash=hashlib.sha256(content).hexdigest(),
            size=len(content),
            payload_ref=request.payload_ref,
        )
        event = events.Event(blob_received=blob)
        receiver = self.world.store_of(request.recipient.partition("/")[0])
        receiver.blobs[request.payload_ref] = content
        done = await self._send(request, context, "SendBlob", request.network_namespace, event)
        return exchange.SendBlobResponse(submission=done)

    async def _send(
        self, request: Any, context: Any, method: str, network: str, event: events.Event
    ) -> common.Submission:
        stream = scope_of(request.context.stream)
        sender = self.calls.store(context)
        known = (*stream[:2], request.recipient) in sender.peers
        if not known and not self.world.has("unknown-peer-taken"):
            if not self.world.has("stream-optional"):
                self.calls.check(context, request.context, method)
            raise not_found("UNKNOWN_PEER", "nobody knows this peer")
        peer, _, node = request.recipient.partition("/")
        receiver = self.world.store_of(peer)

        def effect(store: Store, scope: Scope, operation: Operation) -> str:
            def acked(manifest: str) -> None:
                update = events.OperationUpdate(
                    idempotency_key=operation.key, state=SUCCEEDED, manifest=manifest
                )
                update.external_id = event.id
                self.world.update(store, stream, update)

            made = events.Event()
            made.CopyFrom(event)
            made.id = f"received/{next(self.world.numbers)}"
            if self.world.has("receipt-early"):
                acked("")
            received = Received(made.id, network, node, made, acked)
            if self.world.has("blob-last") and method == "SendBlob":
                self.world.held.append(received)
                return made.id
            receiver.inbox += [received, *self.world.held]
            self.world.held.clear()
            self.world.wake()
            return made.id

        return await self.calls.submit(context, request, method, effect, ends=False)

    async def UploadBlob(self, frames: AsyncIterator[Any], context: Any) -> Any:
        def keep(header: Any, content: bytes, store: Store) -> exchange.UploadBlobResponse:
            digest = hashlib.sha256(content).hexdigest()
            reference = f"blob-{header.data_id}-{digest[:8]}"
            store.blobs[reference] = content
            if self.world.has("wrong-hash"):
                digest = digest[::-1]
            return exchange.UploadBlobResponse(
                payload_ref=reference, hash=digest, size=len(content)
            )

        return await self.uploads.take(frames, context, "UploadBlob", keep)

    async def DownloadBlob(self, request: Any, context: Any) -> AsyncIterator[Any]:
        content = self.calls.store(context).blobs.get(request.payload_ref)
        if content is None:
            raise not_found("UNKNOWN_BLOB", "no such blob")
        yield exchange.DownloadBlobResponse(size=len(content))
        for piece in self.uploads.pieces(content[request.offset :]):
            yield exchange.DownloadBlobResponse(chunk=piece)

    async def DeleteBlob(self, request: Any, context: Any) -> Any:
        def effect(store: Store, scope: Scope) -> exchange.DeleteBlobResponse:
            known = request.payload_ref in store.blobs
            if not self.world.has("blob-kept"):
                store.blobs.pop(request.payload_ref, None)
            return exchange.DeleteBlobResponse(replayed=not known)

        return self.calls.change(context, request, "DeleteBlob", effect)


class SharedStorage:
    """Files by their hash."""

    def __init__(self, calls: Calls) -> None:
        self.calls, self.world = calls, calls.world
        self.uploads = Uploads(calls)

    async def Upload(self, frames: AsyncIterator[Any], context: Any) -> Any:
        def keep(header: Any, content: bytes, store: Store) -> storage.UploadResponse:
            reference = hashlib.sha256(content).hexdigest()
            if self.world.has("reference-random"):
                reference = f"file-{next(self.world.numbers)}"
            store.files[reference] = content
            store.pins.add(reference)
            return storage.UploadResponse(payload_ref=reference, size=len(content))

        return await self.uploads.take(frames, context, "Upload", keep)

    async def Download(self, request: Any, context: Any) -> AsyncIterator[Any]:
        has = self.world.has
        content = self.calls.store(context).files.get(request.payload_ref)
        if content is None:
            if request.payload_ref == "corrupt" and not has("unchecked"):
                raise Refused(grpc.StatusCode.DATA_LOSS, "HASH_MISMATCH", "it was changed")
            if not has("unknown-is-empty") and request.payload_ref != "corrupt":
                raise not_found("UNKNOWN_PAYLOAD", "nobody stored that")
            content = b""
        limit = request.max_bytes
        if limit and len(content) > limit and not has("max-bytes-ignored"):
            raise precondition("PAYLOAD_TOO_LARGE", "too large")
        offset = 0 if has("offset-ignored") else request.offset
        for piece in self.uploads.pieces(content[offset:]):
            yield storage.DownloadResponse(chunk=piece)

    async def Pin(self, request: Any, context: Any) -> Any:
        return self._pin(request, context, "Pin")

    async def Unpin(self, request: Any, context: Any) -> Any:
        return self._pin(request, context, "Unpin")

    def _pin(self, request: Any, context: Any, method: str) -> Any:
        if self.world.has("claims-unserved"):
            raise Refused(grpc.StatusCode.UNIMPLEMENTED, "NOT_OFFERED", "not here")

        def effect(store: Store, scope: Scope) -> Any:
            pinned = request.payload_ref in store.pins
            if method == "Pin":
                store.pins.add(request.payload_ref)
                known = pinned and not self.world.has("pin-always-new")
                return storage.PinResponse(replayed=known)
            store.pins.discard(request.payload_ref)
            return storage.UnpinResponse(replayed=not pinned)

        return self.calls.change(context, request, method, effect)
