"""Bytes on the wire between two data exchanges: FireFly's paths and forms, and our extensions beside them.

FireFly's peer protocol (see docs/divergences.md for what we add):

    HEAD /api/v1/ping
    POST /api/v1/messages                      form: senderDestination?, recipientDestination?, message
    PUT  /api/v1/blobs/<network>/<data id>     form: senderDestination?, recipientDestination?, then the file

The answer to a ping names the extensions a peer knows:

    batch     POST /api/v1/photinus/messages   several messages in one request, in order; see `encode_batch`
    receipts  POST /api/v1/photinus/receipts   JSON; what the core behind a peer has stored
    resume    HEAD /api/v1/blobs/…             answers how many bytes of an interrupted transfer are there
"""

from __future__ import annotations

import re
import secrets
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

import msgspec

from photinus_dx.errors import PeerRefusal
from photinus_dx.model import NAME_FORM, UUID_FORM

PING_PATH = "/api/v1/ping"
MESSAGES_PATH = "/api/v1/messages"
BLOBS_PATH = "/api/v1/blobs/"
BATCH_PATH = "/api/v1/photinus/messages"
RECEIPTS_PATH = "/api/v1/photinus/receipts"

EXTENSIONS_HEADER = "X-Photinus-Extensions"
ITEM_HEADER = "X-Photinus-Item"
HASH_HEADER = "X-Photinus-Hash"
SIZE_HEADER = "X-Photinus-Size"
OFFSET_HEADER = "X-Photinus-Offset"
EXTENSIONS = "batch, receipts, resume"
BATCH_CONTENT_TYPE = "application/vnd.photinus.messages"

BATCH_ITEMS_MAX = 200
BATCH_BYTES = 1024 * 1024
RECEIPTS_BYTES_MAX = 8 * 1024 * 1024
RECEIPTS_MAX = 500
FORM_FIELD_BYTES_MAX = 512
FORM_HEAD_BYTES_MAX = 8 * 1024
FORM_OVERHEAD_BYTES = 8 * 1024

SENDER_FIELD = "senderDestination"
RECIPIENT_FIELD = "recipientDestination"
MESSAGE_FIELD = "message"

_BOUNDARY = re.compile(
    r'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"\r\n]{1,70})"|([^";,\s]{1,70}))\s*(?:;|$)',
    re.IGNORECASE,
)
_FIELD_NAME = re.compile(
    rb'content-disposition:\s*form-data\s*;[^\r\n]*?\bname="([^"\r\n]*)"', re.IGNORECASE
)
_FILE_NAME = re.compile(rb"content-disposition:[^\r\n]*?\bfilename\*?=", re.IGNORECASE)
_LENGTHS = struct.Struct(">II")


class BatchHead(msgspec.Struct, frozen=True):
    """What goes before each message of a batch."""

    item: str
    sender: str
    recipient: str


class ItemResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one message of a batch: an HTTP status, and why when it is not 204."""

    status: int
    reason: str = ""
    error: str = ""


class ReceiptRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One receipt on the wire."""

    item: str
    recipient: str
    manifest: str = ""
    hash: str = ""


class _Batch(msgspec.Struct, frozen=True):
    namespace: str


class _Wrapper(msgspec.Struct, frozen=True):
    batch: _Batch


_wrapper_decoder = msgspec.json.Decoder(_Wrapper)
_head_decoder = msgspec.json.Decoder(BatchHead)


def network_of(message: str) -> str:
    """Network name a message is for, from FireFly's transport wrapper `{"group"?, "batch": {"namespace", …}}`.

    Raises:
        PeerRefusal: 400 MALFORMED_MESSAGE.
    """
    try:
        network = _wrapper_decoder.decode(message).batch.namespace
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise PeerRefusal(
            400, "MALFORMED_MESSAGE", f"the message is no transport wrapper: {error}"
        ) from error
    if not NAME_FORM.fullmatch(network):
        raise PeerRefusal(400, "MALFORMED_MESSAGE", "batch.namespace is no network name")
    return network


def blob_place(raw_path: str) -> tuple[str, str]:
    """Network and data id of a blob's path, exactly `/api/v1/blobs/<network>/<data id>`.

    Works on the path as it was sent, before any decoding, so that nothing can be smuggled past it.

    Raises:
        PeerRefusal: 400 BAD_PATH.
    """
    network, slash, data_id = raw_path.removeprefix(BLOBS_PATH).partition("/")
    if (
        not raw_path.startswith(BLOBS_PATH)
        or not slash
        or not NAME_FORM.fullmatch(network)
        or not UUID_FORM.fullmatch(data_id)
    ):
        raise PeerRefusal(400, "BAD_PATH", "a blob's path is <network>/<data id>")
    return network, data_id


# Forms


def encode_form(fields: Iterable[tuple[str, str]]) -> tuple[bytes, str]:
    """A multipart form without files, and its content type."""
    boundary = _new_boundary()
    parts = [_field(boundary, name, value) for name, value in fields]
    parts.append(b"--%s--\r\n" % boundary)
    return b"".join(parts), _content_type(boundary)


def file_form(fields: Iterable[tuple[str, str]]) -> tuple[bytes, bytes, str]:
    """What goes before and after a file in a form, and the content type."""
    boundary = _new_boundary()
    head = b"".join(_field(boundary, name, value) for name, value in fields)
    head += (
        b'--%s\r\nContent-Disposition: form-data; name="blob"; filename="blob"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" % boundary
    )
    return head, b"\r\n--%s--\r\n" % boundary, _content_type(boundary)


def boundary_of(content_type: str) -> bytes:
    """The boundary a content type names.

    Raises:
        PeerRefusal: 400 BAD_FORM.
    """
    found = _BOUNDARY.match(content_type)
    if not found:
        raise PeerRefusal(400, "BAD_FORM", "a multipart form is wanted")
    return str(found[1] or found[2]).encode()


def decode_form(body: bytes, content_type: str) -> dict[str, str]:
    """The fields of a form that is in memory.

    Raises:
        PeerRefusal: 400 BAD_FORM.
    """
    delimiter = b"\r\n--" + boundary_of(content_type)
    _, *parts = (b"\r\n" + body).split(delimiter)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise PeerRefusal(400, "BAD_FORM", "the form breaks off")
    fields: dict[str, str] = {}
    for part in parts[:-1]:
        head, blank, value = part.partition(b"\r\n\r\n")
        found = _FIELD_NAME.search(head)
        if not blank or not found:
            raise PeerRefusal(400, "BAD_FORM", "a part of the form has no name")
        try:
            fields[found[1].decode()] = value.decode()
        except UnicodeDecodeError as error:
            raise PeerRefusal(400, "BAD_FORM", "a field is not UTF-8") from error
    return fields


class FileForm:
    """Reads a form whose last part is a file, without holding the file.

    First `fields()`, then `content()` to its end; the end is only reached when the form is complete.
    """

    def __init__(self, chunks: AsyncIterator[bytes], content_type: str) -> None:
        self._chunks = chunks
        self._delimiter = b"\r\n--" + boundary_of(content_type)
        self._buffer = b"\r\n"

    async def fields(self) -> dict[str, str]:
        """The fields before the file.

        Raises:
            PeerRefusal: 400 BAD_FORM, also when there is no file.
        """
        fields: dict[str, str] = {}
        await self._until(self._delimiter, FORM_HEAD_BYTES_MAX)
        while True:
            last = await self._begins_with(b"--")
            head = b"" if last else await self._until(b"\r\n\r\n", FORM_HEAD_BYTES_MAX)
            found = _FIELD_NAME.search(head)
            if not found:
                raise PeerRefusal(400, "BAD_FORM", "the form has no file")
            if _FILE_NAME.search(head):
                return fields
            value = await self._until(self._delimiter, FORM_FIELD_BYTES_MAX)
            try:
                fields[found[1].decode()] = value.decode()
            except UnicodeDecodeError as error:
                raise PeerRefusal(400, "BAD_FORM", "a field is not UTF-8") from error

    async def content(self) -> AsyncIterator[bytes]:
        """The file's bytes.

        Raises:
            PeerRefusal: 400 TRUNCATED when the form ends before its last boundary.
        """
        keep = len(self._delimiter) - 1
        while True:
            place = self._buffer.find(self._delimiter)
            if place >= 0:
                if place:
                    yield self._buffer[:place]
                return
            if len(self._buffer) > keep:
                yield self._buffer[:-keep]
                self._buffer = self._buffer[-keep:]
            more = await anext(self._chunks, b"")
            if not more:
                raise PeerRefusal(400, "TRUNCATED", "the form breaks off")
            self._buffer += more

    async def _begins_with(self, mark: bytes) -> bool:
        while len(self._buffer) < len(mark):
            more = await anext(self._chunks, b"")
            if not more:
                raise PeerRefusal(400, "TRUNCATED", "the form breaks off")
            self._buffer += more
        return self._buffer.startswith(mark)

    async def _until(self, mark: bytes, limit: int) -> bytes:
        while (place := self._buffer.find(mark)) < 0:
            if len(self._buffer) > limit:
                raise PeerRefusal(400, "BAD_FORM", "a part of the form is too long")
            more = await anext(self._chunks, b"")
            if not more:
                raise PeerRefusal(400, "TRUNCATED", "the form breaks off")
            self._buffer += more
        taken = self._buffer[:place]
        self._buffer = self._buffer[place + len(mark) :]
        return taken


def _new_boundary() -> bytes:
    return b"photinus" + secrets.token_hex(12).encode()


def _field(boundary: bytes, name: str, value: str) -> bytes:
    return b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (
        boundary,
        name.encode(),
        value.encode(),
    )


def _content_type(boundary: bytes) -> str:
    return f"multipart/form-data; boundary={boundary.decode()}"


# Batches


@dataclass(frozen=True)
class BatchItem:
    """One message of a batch."""

    item_id: str
    sender_node: str
    recipient_node: str
    message: str


def encode_batch(items: Iterable[BatchItem]) -> bytes:
    """Messages in order, each as two big-endian 32-bit lengths, a JSON head and the text."""
    parts: list[bytes] = []
    for item in items:
        head = msgspec.json.encode(
            BatchHead(item=item.item_id, sender=item.sender_node, recipient=item.recipient_node)
        )
        text = item.message.encode()
        parts += (_LENGTHS.pack(len(head), len(text)), head, text)
    return b"".join(parts)


def decode_batch(body: bytes) -> Iterator[BatchItem]:
    """The messages of a batch, in order.

    Raises:
        PeerRefusal: 400 BAD_BATCH.
    """
    place, count = 0, 0
    while place < len(body):
        count += 1
        try:
            head_size, text_size = _LENGTHS.unpack_from(body, place)
            middle = place + _LENGTHS.size + head_size
            end = middle + text_size
            if end > len(body) or count > BATCH_ITEMS_MAX:
                raise PeerRefusal(400, "BAD_BATCH", "the batch breaks off or has too many items")
            head = _head_decoder.decode(body[place + _LENGTHS.size : middle])
            text = body[middle:end].decode()
        except (struct.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise PeerRefusal(400, "BAD_BATCH", f"the batch cannot be read: {error}") from error
        yield BatchItem(head.item, head.sender, head.recipient, text)
        place = end
