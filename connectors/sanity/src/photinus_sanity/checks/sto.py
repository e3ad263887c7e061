"""STO: bytes in, the same bytes out, by a reference that depends on them alone."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import shared_storage_pb2 as storage

from photinus_sanity import needs
from photinus_sanity.catalogue import Phase, Profile, must
from photinus_sanity.probe import (
    EXISTS,
    INVALID,
    NOT_FOUND,
    PRECONDITION,
    UNAVAILABLE,
    Probe,
    refused,
)
from photinus_sanity.sources import CHUNK_BYTES, store, upload_frames
from photinus_sanity.violations import Violation, require
from photinus_sanity.wire import METHODS, Refusal

KIND = connector.CONTRACT_KIND_SHARED_STORAGE
STORAGE = needs.contract(KIND)
RULE = "shared_storage.proto"
UPLOAD = "SharedStorageService.Upload"


def _content(probe: Probe, size: int) -> bytes:
    block = hashlib.sha256(f"{probe.session.cluster_id} {probe.name}".encode()).digest()
    return (block * (size // len(block) + 1))[:size]


async def _read(probe: Probe, reference: str, offset: int = 0, max_bytes: int = 0) -> bytes:
    request = storage.DownloadRequest(payload_ref=reference, offset=offset, max_bytes=max_bytes)
    answers = await probe.wire.download("SharedStorageService.Download", request)
    chunks = [answer.chunk for answer in answers]
    require(all(len(chunk) <= CHUNK_BYTES for chunk in chunks), "a chunk of more than 1 MiB")
    return b"".join(chunks)


def _header(probe: Probe) -> storage.UploadHeader:
    return storage.UploadHeader(context=probe.context(probe.key("upload"), epoch=0))


@must(
    "STO-001",
    rule=f"{RULE} Upload, Download",
    fix="Store the chunks in order, and give them back in order.",
    needs=(STORAGE,),
)
async def there_and_back(probe: Probe) -> None:
    """What was uploaded is downloaded, byte for byte, whatever its size; no chunk exceeds 1 MiB."""
    for size in (0, 1, 70_000, 3 * CHUNK_BYTES + 5):
        content = _content(probe, size)
        stored = await store(probe, content)
        require(stored.size == size, f"the size of {size} bytes is {stored.size}")
        require(stored.payload_ref, "the reference is empty")
        received = await _read(probe, stored.payload_ref)
        require(received == content, f"{size} bytes came back as {len(received)} others")


@must(
    "STO-002",
    rule=f"{RULE}: the same bytes have the same reference, whoever stores them",
    fix="Derive the reference from the bytes alone.",
    needs=(STORAGE,),
)
async def by_content(probe: Probe) -> None:
    """The same bytes have the same reference, other bytes another one, however they are cut into chunks."""
    content = _content(probe, 300_000)
    first = await store(probe, content)
    require((await store(probe, content)).payload_ref == first.payload_ref, "another reference")
    header = _header(probe)
    frames: list[Any] = [storage.UploadRequest(header=header)]
    frames += [
        storage.UploadRequest(chunk=content[at : at + 777]) for at in range(0, len(content), 777)
    ]
    frames.append(storage.UploadRequest(end=common.UploadEnd(size=len(content))))
    cut = await probe.wire.upload(UPLOAD, frames)
    require(cut.payload_ref == first.payload_ref, "other chunks give another reference")
    other = await store(probe, content + b"x")
    require(other.payload_ref != first.payload_ref, "other bytes have the same reference")


@must(
    "STO-003",
    rule="protocol.md §3: uploads end with a frame that says so",
    fix="Store nothing until the end frame has come and its size fits.",
    needs=(STORAGE,),
)
async def incomplete(probe: Probe) -> None:
    """An upload without its end, or with a wrong size, is refused."""
    whole = upload_frames(storage.UploadRequest, _header(probe), _content(probe, 50_000))
    wrong = storage.UploadRequest(end=common.UploadEnd(size=49_999))
    for frames, what in (
        (whole[:-1], "an upload without its end"),
        ([*whole[:-1], wrong], "an upload with a wrong size"),
    ):
        await refused(probe.wire.upload(UPLOAD, frames), INVALID, what=what)


@must(
    "STO-004",
    rule=f"{RULE} Upload: the first frame has the header, the rest chunks of at most 1 MiB",
    fix="Check the order of frames and the size of chunks.",
    needs=(STORAGE,),
)
async def frames_in_order(probe: Probe) -> None:
    """An upload without a header, with two, or with a chunk over 1 MiB is refused."""
    content = b"content"
    whole = upload_frames(storage.UploadRequest, _header(probe), content)
    large = bytes(CHUNK_BYTES + 1)
    for frames, what in (
        (whole[1:], "an upload without a header"),
        ([whole[0], *whole], "an upload with two headers"),
        (
            [
                whole[0],
                storage.UploadRequest(chunk=large),
                storage.UploadRequest(end=common.UploadEnd(size=len(large))),
            ],
            "an upload with a chunk of more than 1 MiB",
        ),
    ):
        await refused(probe.wire.upload(UPLOAD, frames), INVALID, what=what)


@must(
    "STO-005",
    rule=f"{RULE} Download.offset",
    fix="Begin at the offset; at the end there is nothing to send.",
    needs=(STORAGE, needs.capability_of(KIND, connector.CAPABILITY_RESUME)),
)
async def offsets(probe: Probe) -> None:
    """A download begins at its offset."""
    content = _content(probe, 2 * CHUNK_BYTES)
    stored = await store(probe, content)
    for offset in (1, CHUNK_BYTES, CHUNK_BYTES + 17, len(content)):
        received = await _read(probe, stored.payload_ref, offset)
        require(received == content[offset:], f"from offset {offset} come other bytes")


@must(
    "STO-006",
    rule=f"{RULE} Download: FAILED_PRECONDITION / PAYLOAD_TOO_LARGE",
    fix="Compare the size with max_bytes before you send.",
    needs=(STORAGE,),
)
async def too_large(probe: Probe) -> None:
    """A download that exceeds max_bytes is refused with PAYLOAD_TOO_LARGE; one that just fits is not."""
    content = _content(probe, 5000)
    stored = await store(probe, content)
    require(await _read(probe, stored.payload_ref, max_bytes=5000) == content, "other bytes")
    await refused(
        _read(probe, stored.payload_ref, max_bytes=4999),
        PRECONDITION,
        "PAYLOAD_TOO_LARGE",
        what="a download larger than max_bytes",
    )


@must(
    "STO-007",
    rule=f"{RULE} Download: NOT_FOUND / UNKNOWN_PAYLOAD",
    fix="Check the form of references; they are names, never paths.",
    needs=(STORAGE,),
)
async def unknown(probe: Probe) -> None:
    """A reference nobody made is refused, whatever it looks like."""
    given = probe.get("sharedStorage.absentReference")
    strange = ("../../../../etc/passwd", "/etc/passwd", "no such thing", "")
    for reference in (*([given] if given else []), *strange):
        await refused(
            _read(probe, reference),
            (NOT_FOUND, UNAVAILABLE) if reference == given else (NOT_FOUND, INVALID),
            what=f"Download of {reference!r}",
        )


@must(
    "STO-008",
    rule=f"{RULE} Pin, Unpin: idempotent",
    fix="Keep a pin per owner; say replayed when nothing changed.",
    needs=(STORAGE, needs.capability(connector.CAPABILITY_PINNING)),
)
async def pins(probe: Probe) -> None:
    """An upload is pinned; Unpin and Pin change that, and say replayed when there is nothing to change."""
    reference = (await store(probe, _content(probe, 100))).payload_ref

    async def change(kind: str) -> bool:
        request_type = storage.PinRequest if kind == "Pin" else storage.UnpinRequest
        context = probe.context(probe.key(), epoch=0)
        request = request_type(context=context, payload_ref=reference)
        return bool((await probe.wire.call(f"SharedStorageService.{kind}", request)).replayed)

    for kind, replayed in (
        ("Pin", True),
        ("Unpin", False),
        ("Unpin", True),
        ("Pin", False),
        ("Pin", True),
    ):
        found = await change(kind)
        require(found is replayed, f"{kind} says replayed={found}, not {replayed}")


@must(
    "STO-009",
    rule="protocol.md §3: same key, other arguments is KEY_REUSED",
    fix="Take the digest of the bytes into what a key stands for.",
    needs=(STORAGE,),
)
async def upload_keys(probe: Probe) -> None:
    """An upload with a used key: the same bytes give the same answer, others KEY_REUSED."""
    key = probe.key("upload")
    first = await store(probe, b"first content", key)
    require(await store(probe, b"first content", key) == first, "another answer")
    await refused(
        store(probe, b"other content", key),
        EXISTS,
        "KEY_REUSED",
        what="an upload with a used key and other bytes",
    )


@must(
    "STO-010",
    rule=f"{RULE} Upload: nothing is left behind when the stream breaks",
    fix="Write to a temporary place; drop it when the call ends.",
    profile=Profile.FULL,
    needs=(STORAGE,),
)
async def broken_off(probe: Probe) -> None:
    """Uploads that are given up half-way harm nothing: the same key then stores the whole."""
    content = _content(probe, 2 * CHUNK_BYTES)
    key = probe.key("upload")
    header = storage.UploadHeader(context=probe.context(key, epoch=0))
    frames = upload_frames(storage.UploadRequest, header, content)
    for _ in range(5):
        call = probe.wire.channel.stream_unary(
            f"/{METHODS[UPLOAD].containing_service.full_name}/Upload",
            storage.UploadRequest.SerializeToString,
            storage.UploadResponse.FromString,
        )(timeout=10, metadata=probe.wire.metadata)
        for frame in frames[:2]:
            await call.write(frame)
        call.cancel()
    try:
        stored = await store(probe, content, key)
    except Refusal as refusal:
        raise Violation(f"after uploads that broke off: {refusal}") from None
    require(await _read(probe, stored.payload_ref) == content, "other bytes came back")


@must(
    "STO-011",
    rule=f"{RULE} Upload: stores bytes, durably",
    fix="Have the bytes on disk before you answer.",
    profile=Profile.FULL,
    phase=Phase.KILLED,
    needs=(STORAGE, needs.restartable),
)
async def durable(probe: Probe) -> AsyncGenerator[None, None]:
    """What was uploaded is there after kill -9."""
    content = _content(probe, 200_000)
    stored = await store(probe, content)
    yield
    require(await _read(probe, stored.payload_ref) == content, "other bytes came back")


@must(
    "STO-012",
    rule=f"{RULE} Download: what is sent has been checked against the reference",
    fix="Check while you read; end with DATA_LOSS / HASH_MISMATCH.",
    profile=Profile.FULL,
    needs=(STORAGE, needs.fixture("sharedStorage.corruptReference")),
)
async def checked(probe: Probe) -> None:
    """Bytes that do not fit their reference end with DATA_LOSS / HASH_MISMATCH."""
    await refused(
        _read(probe, probe.get("sharedStorage.corruptReference")),
        grpc.StatusCode.DATA_LOSS,
        "HASH_MISMATCH",
        what="Download of bytes that were changed in the storage",
    )
