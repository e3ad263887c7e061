"""DX: peers, messages, receipts, blobs."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import data_exchange_pb2 as exchange
from photinus.connector.v1 import event_pb2 as events

from photinus_sanity import needs
from photinus_sanity.catalogue import Profile, must
from photinus_sanity.probe import INVALID, NOT_FOUND, Probe, ends_in, refused
from photinus_sanity.sources import CHUNK_BYTES, PeerSource, upload_frames
from photinus_sanity.violations import require
from photinus_sanity.wire import Refusal, Wire

KIND = connector.CONTRACT_KIND_DATA_EXCHANGE
EXCHANGE = needs.contract(KIND)
TWO = (EXCHANGE, needs.second)
RULE = "data_exchange.proto"
SUCCEEDED = common.OPERATION_STATE_SUCCEEDED
FAILED = common.OPERATION_STATE_FAILED
MANIFEST = "manifest of the suite"


async def _source(probe: Probe) -> PeerSource:
    source = PeerSource(probe)
    await source.start()
    return source


async def _upload(
    probe: Probe, content: bytes, data_id: str, frames: list[Any] | None = None
) -> exchange.UploadBlobResponse:
    header = exchange.UploadBlobHeader(
        context=probe.context(probe.key("upload"), epoch=0), data_id=data_id
    )
    made = upload_frames(exchange.UploadBlobRequest, header, content)
    answer: exchange.UploadBlobResponse = await probe.wire.upload(
        "DataExchangeService.UploadBlob", frames if frames is not None else made
    )
    return answer


async def _download(wire: Wire, reference: str, offset: int = 0) -> tuple[int, bytes]:
    request = exchange.DownloadBlobRequest(payload_ref=reference, offset=offset)
    answers = await wire.download("DataExchangeService.DownloadBlob", request)
    sizes = [answer.size for answer in answers]
    require(sizes and not any(sizes[1:]), "the size is not in the first answer alone")
    chunks = [answer.chunk for answer in answers]
    require(all(len(chunk) <= CHUNK_BYTES for chunk in chunks), "a chunk of more than 1 MiB")
    return sizes[0], b"".join(chunks)


@must(
    "DX-001",
    rule=f"{RULE} GetEndpoint",
    fix="Answer FireFly's node profile; the id is `<peer>/<node>`.",
    needs=(EXCHANGE,),
)
async def endpoint(probe: Probe) -> None:
    """GetEndpoint answers id and endpoint as JSON; the id ends with the node, and stays the same."""
    for node, ending in (("node1", "/node1"), ("", "")):
        request = exchange.GetEndpointRequest(node_name=node)
        answer = await probe.wire.call("DataExchangeService.GetEndpoint", request)
        document = json.loads(answer.peer_json)
        require(document["id"] == answer.peer_id, "peer_json names another id")
        require(document["endpoint"], "the endpoint is empty")
        require(answer.peer_id.endswith(ending), f"the id of {node!r} is {answer.peer_id!r}")
        again = await probe.wire.call("DataExchangeService.GetEndpoint", request)
        require(again == answer, "a second answer differs")


@must(
    "DX-002",
    rule=f"{RULE} AddPeer, RemovePeer: idempotent",
    fix="Compare with what is known; say replayed when nothing changed.",
    needs=TWO,
)
async def peers(probe: Probe) -> None:
    """AddPeer and RemovePeer again, with other keys, are success with replayed=true."""
    source = await _source(probe)
    document = source.documents["a"]

    async def add() -> bool:
        request = exchange.AddPeerRequest(
            context=probe.context(probe.key(), epoch=0),
            network_namespace=probe.network,
            peer_json=document.peer_json,
        )
        return bool((await probe.wire.call("DataExchangeService.AddPeer", request)).replayed)

    async def remove() -> bool:
        request = exchange.RemovePeerRequest(
            context=probe.context(probe.key(), epoch=0),
            network_namespace=probe.network,
            peer_id=document.peer_id,
        )
        return bool((await probe.wire.call("DataExchangeService.RemovePeer", request)).replayed)

    require(await add(), "a peer that is known is not replayed")
    require(not await remove(), "removing a known peer is replayed")
    require(await remove(), "removing an unknown peer is not replayed")
    require(not await add(), "a peer that was removed is replayed")


@must(
    "DX-003",
    rule=f"{RULE} SendMessage, event.proto MessageReceived",
    fix="Pass the text on byte for byte; take the sender from what proves it.",
    needs=TWO,
)
async def message(probe: Probe) -> None:
    """A message arrives once, byte for byte, with sender, recipient and time."""
    source = await _source(probe)
    key = probe.key()
    # As another implementation may write it: spaces, characters beyond ASCII, numbers of its own.
    text = (
        f'{{ "batch" :{{"id":"{key}","namespace":"{probe.network}","x":"é ☃ \\u0041","n":1.0e3}}}}'
    )
    request = exchange.SendMessageRequest(
        context=probe.context(key),
        recipient=source.documents["a"].peer_id,
        sender=source.sender,
        message=text,
    )
    async with source.open() as stream:
        await probe.wire.call("DataExchangeService.SendMessage", request)
        found = await stream.collect(lambda seen: bool(_messages(seen)))
    (got,) = _messages(found)
    require(got.message == text, "the text changed")
    require(got.sender == source.sender, f"the sender is {got.sender!r}, not {source.sender!r}")
    require(got.recipient == request.recipient, f"the recipient is {got.recipient!r}")
    require(got.HasField("received"), "the time is missing")


def _messages(found: Any) -> list[events.MessageReceived]:
    return [e.message_received for e in found if e.WhichOneof("body") == "message_received"]


@must(
    "DX-004",
    rule=f"{RULE}: SUCCEEDED when the peer's core has stored it, with the manifest",
    fix="Wait for the core's ack before you tell the sender; pass its manifest on.",
    needs=(*TWO, needs.capability(connector.CAPABILITY_RECEIPTS)),
)
async def receipts(probe: Probe) -> None:
    """A send ends when the receiving core has acked it, with the manifest of that ack, and not before."""
    source = await _source(probe)
    async with probe.stream() as ends, source.open() as stream:
        await ends.open(probe.submit_ref)
        key = probe.key()
        method, request = source.submission(probe.context(key), source.new_marker(key))
        await probe.wire.call(method, request)
        batch = await stream.batch()
        while not any(source.marker(e) for e in batch.events):
            await stream.ack(batch.seq)
            batch = await stream.batch()
        for frame in await ends.quiet(probe.session.quiet_s):
            early = key in ends_in(frame.batch.events)
            require(not early, "the send ended before the receiving core acked")
            await ends.ack(frame.batch.seq)
        (event,) = [e for e in batch.events if source.marker(e)]
        await stream.ack(batch.seq, {event.id: MANIFEST})
        found = await ends.collect(lambda seen: key in ends_in(seen), what="the end of the send")
    end = ends_in(found)[key]
    require(end.state == SUCCEEDED, f"it ended as {end.state}: {end.error}")
    require(end.manifest == MANIFEST, f"the manifest is {end.manifest!r}")


@must(
    "DX-005",
    rule=f"{RULE} SendMessage: in the order of their calls; a blob goes before its message",
    fix="Keep one queue per peer, for messages and blobs together.",
    profile=Profile.FULL,
    needs=TWO,
)
async def order(probe: Probe) -> None:
    """Messages and blobs to one peer arrive in the order of their calls."""
    source = await _source(probe)
    content = bytes(range(256)) * 4096
    data_id = probe.uuid("blob")
    blob = await _upload(probe, content, data_id)
    async with source.open() as stream:
        before = await source.emit(2)
        request = exchange.SendBlobRequest(
            context=probe.context(probe.key()),
            recipient=source.documents["a"].peer_id,
            sender=source.sender,
            network_namespace=probe.network,
            data_id=data_id,
            payload_ref=blob.payload_ref,
        )
        await probe.wire.call("DataExchangeService.SendBlob", request)
        after = await source.emit(2)
        found = await stream.collect(lambda seen: bool(source.mine(seen, after[-1:])))
    kinds = [source.marker(e) or e.WhichOneof("body") for e in found]
    wanted = [*before, "blob_received", *after]
    kinds = [kind for kind in kinds if kind in wanted]
    require(kinds == wanted, f"what was sent in order came as {kinds}")
    got = next(e.blob_received for e in found if e.WhichOneof("body") == "blob_received")
    digest = hashlib.sha256(content).hexdigest()
    require(got.hash == digest, "the blob's hash is not that of its bytes")
    require(got.size == len(content), f"the size is {got.size}")
    require(got.data_id == data_id, "another data id")
    _, received = await _download(source.listening, got.payload_ref)
    require(received == content, "the blob's bytes changed")


@must(
    "DX-006",
    rule=f"{RULE}: NOT_FOUND / UNKNOWN_PEER",
    fix="Look the peer up in the namespace of the call before the key is journaled.",
    needs=TWO,
)
async def unknown_peer(probe: Probe) -> None:
    """A message to a peer nobody made known is refused with UNKNOWN_PEER."""
    source = await _source(probe)
    request = source.message(probe.context(probe.key()), probe.uuid("lost"))
    request.recipient = "nobody/node"
    await refused(
        probe.wire.call("DataExchangeService.SendMessage", request),
        NOT_FOUND,
        "UNKNOWN_PEER",
        what="a message to an unknown peer",
    )


@must(
    "DX-007",
    rule=f"{RULE} SendMessage: MESSAGE_TOO_LARGE, connector.proto Limits",
    fix="Refuse what exceeds max_message_bytes before the key is journaled.",
    needs=TWO,
)
async def too_large(probe: Probe) -> None:
    """A message larger than max_message_bytes is refused with MESSAGE_TOO_LARGE."""
    source = await _source(probe)
    claimed = probe.session.claimed(KIND)
    assert claimed is not None
    limit = claimed.limits.max_message_bytes
    require(0 < limit < (4 << 20), f"max_message_bytes is {limit}: a message is one gRPC frame")
    request = source.message(probe.context(probe.key()), probe.uuid("large"), limit)
    await refused(
        probe.wire.call("DataExchangeService.SendMessage", request),
        INVALID,
        "MESSAGE_TOO_LARGE",
        what="a message that is too large",
    )


@must(
    "DX-008",
    rule=f"{RULE} UploadBlob, DownloadBlob",
    fix="Hash while you store; give back what you took, from any offset.",
    needs=(EXCHANGE,),
)
async def blobs(probe: Probe) -> None:
    """A blob comes back as it was stored, with size and hash, also from an offset; again it is the same."""
    content = hashlib.sha256(probe.name.encode()).digest() * 50_000
    data_id = probe.uuid("blob")
    stored = await _upload(probe, content, data_id)
    require(stored.size == len(content), f"the size is {stored.size}, not {len(content)}")
    require(stored.hash == hashlib.sha256(content).hexdigest(), "the hash is another")
    require(await _upload(probe, content, data_id) == stored, "the same again is not the same")
    size, received = await _download(probe.wire, stored.payload_ref)
    require(size == len(content), f"the size is {size} in the first answer")
    require(received == content, "the bytes changed")
    if probe.session.claims(connector.CAPABILITY_RESUME):
        _, rest = await _download(probe.wire, stored.payload_ref, 1_000_001)
        require(rest == content[1_000_001:], "the bytes from an offset are others")


@must(
    "DX-009",
    rule="protocol.md §3: uploads end with a frame that says so",
    fix="Store nothing until the end frame has come and its size fits.",
    needs=(EXCHANGE,),
)
async def incomplete(probe: Probe) -> None:
    """An upload without its end, with a wrong size, or without a header is refused."""
    header = exchange.UploadBlobHeader(
        context=probe.context(probe.key("bad"), epoch=0), data_id=probe.uuid("bad")
    )
    whole = upload_frames(exchange.UploadBlobRequest, header, b"content")
    short = exchange.UploadBlobRequest(end=common.UploadEnd(size=3))
    for frames, what in (
        (whole[:-1], "an upload without its end"),
        ([*whole[:-1], short], "an upload with a wrong size"),
        (whole[1:], "an upload without a header"),
    ):
        await refused(_upload(probe, b"", "", frames), INVALID, what=what)


@must(
    "DX-010",
    rule=f"{RULE} DeleteBlob: an unknown one is success; DownloadBlob: NOT_FOUND / UNKNOWN_BLOB",
    fix="Delete what is there; treat references as names, never as paths.",
    needs=(EXCHANGE,),
)
async def deleted(probe: Probe) -> None:
    """A deleted blob is gone; deleting again is success; unknown references are UNKNOWN_BLOB."""
    stored = await _upload(probe, probe.name.encode(), probe.uuid("gone"))
    for replayed in (False, True):
        request = exchange.DeleteBlobRequest(
            context=probe.context(probe.key(), epoch=0), payload_ref=stored.payload_ref
        )
        answer = await probe.wire.call("DataExchangeService.DeleteBlob", request)
        require(answer.replayed is replayed, f"replayed is {answer.replayed}, not {replayed}")
    for reference in (stored.payload_ref, "../../key.pem"):
        await refused(
            _download(probe.wire, reference),
            NOT_FOUND,
            "UNKNOWN_BLOB",
            what=f"DownloadBlob of {reference!r}",
        )


@must(
    "DX-011",
    rule="event.proto DestinationFilter, protocol.md §4: routed by destination node and network",
    fix="Match both the node and the network of a listener.",
    profile=Profile.FULL,
    needs=TWO,
)
async def routed(probe: Probe) -> None:
    """A listener gets what is for its node, and nothing that is for another node."""
    source = await _source(probe)
    async with source.open("a", "b") as stream:
        first = await source.emit(to="a")
        second = await source.emit(to="b")
        found = await stream.collect(lambda seen: len(source.mine(seen, [*first, *second])) >= 2)
    for event in found:
        wanted = {"a": first[0], "b": second[0]}.get(event.listener_id, source.marker(event))
        require(source.marker(event) == wanted, "a listener got what was for another node")
    foreign = source.listener("a")
    foreign.destination.network_namespace = f"other-{probe.network}"
    async with probe.stream(source.listening) as stream:
        await stream.open(probe.stream_ref("foreign"), foreign)
        await source.emit(to="a")
        got = await stream.quiet(probe.session.quiet_s)
        strayed = [f for f in got if _messages(f.batch.events)]
        require(not strayed, "a listener got what was for another network")


@must(
    "DX-012",
    rule=f"{RULE} RemovePeer: its sends end as failed",
    fix="End what is queued for a removed peer with FAILED.",
    profile=Profile.FULL,
    needs=TWO,
)
async def removed(probe: Probe) -> None:
    """When a peer is removed, sends to it are refused."""
    source = await _source(probe)
    request = exchange.RemovePeerRequest(
        context=probe.context(probe.key(), epoch=0),
        network_namespace=probe.network,
        peer_id=source.documents["a"].peer_id,
    )
    await probe.wire.call("DataExchangeService.RemovePeer", request)
    message_request = source.message(probe.context(probe.key()), probe.uuid("late"))
    try:
        await probe.wire.call("DataExchangeService.SendMessage", message_request)
    except Refusal as refusal:
        right = refusal.code is NOT_FOUND and refusal.reason == "UNKNOWN_PEER"
        require(right, f"a send to a removed peer must be UNKNOWN_PEER, but: {refusal}")
    else:
        require(False, "a send to a removed peer is taken")
