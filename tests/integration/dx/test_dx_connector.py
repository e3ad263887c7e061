"""Goal: the data exchange does over its protocol, as a process, what its engine does, and refuses in its words.

Method: `photinus-dx` processes launched as the core launches them; raw stubs; peak memory of a process read from the
kernel while 50 MB pass through it.
"""

import hashlib
import json
import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2
from photinus.connector.v1 import data_exchange_pb2 as pb
from photinus.connector.v1 import operation_pb2 as operations

from tests.integration.dx.harness import NETWORK, until, wrapper
from tests.integration.dx.process import MIB, Member, members
from tests.support.wire import child, dialled, reason_of

GROWTH_MAX_KIB = 40 * 1024
DATA_ID = "c0e3b9f2-0b5a-4a26-9f5d-3a4a8f6f0c11"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def peak_kib(member: Member) -> int:
    status = Path(f"/proc/{member.child.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


async def refused(attempt: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await attempt
    return error.value.code(), reason_of(error.value)[0]


async def test_what_it_says_of_itself(tmp_path: Path) -> None:
    async with (
        child("-m", "photinus_dx", "--data-dir", str(tmp_path)) as process,
        dialled(process.address) as wire,
    ):
        answer = await wire.call(wire.connector.Describe, connector_pb2.DescribeRequest())
        (contract,) = answer.contracts
        assert contract.kind == connector_pb2.CONTRACT_KIND_DATA_EXCHANGE
        assert {
            connector_pb2.CAPABILITY_OPERATIONS,
            connector_pb2.CAPABILITY_EVENTS,
            connector_pb2.CAPABILITY_RECEIPTS,
            connector_pb2.CAPABILITY_RESUME,
        } == set(contract.capabilities)
        schema = json.loads(answer.config_schema_json)
        assert "organization" in schema["properties"]


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        ({"listen": "nowhere"}, "/listen"),
        ({"endpoint": "http://insecure"}, "/endpoint"),
        ({"organization": "a/b"}, "/organization"),
        ({"keyFile": "key.pem"}, "/keyFile"),
        ({"listen": "0.0.0.0:5000"}, "/endpoint"),
        ({"limits": {"maxMessageBytes": 1 << 30}}, "/limits/maxMessageBytes"),
        ({"delivery": {"backoffMaxS": 0}}, "/delivery/backoffMaxS"),
        ({"nonsense": 1}, "/nonsense"),
    ],
)
async def test_bad_settings_are_found(
    tmp_path: Path, settings: dict[str, Any], pointer: str
) -> None:
    async with (
        child("-m", "photinus_dx", "--data-dir", str(tmp_path)) as process,
        dialled(process.address) as wire,
    ):
        request = connector_pb2.ValidateRequest(config_json=json.dumps(settings))
        answer = await wire.call(wire.connector.Validate, request)
        assert [entry.pointer for entry in answer.diagnostics] == [pointer]
        code, reason = await refused(wire.configure(settings))
        assert (code, reason) == (INVALID, "INVALID_CONFIG")


async def test_a_message_and_its_receipt(tmp_path: Path) -> None:
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        message = wrapper("hello")
        submission = await alice.send(bob, message, "default:k")
        assert submission.state == common.OPERATION_STATE_PENDING
        await alice.ended(1)
        (event,) = bob.seen.values()
        received = event.message_received
        assert (received.sender, received.recipient) == (alice.id, bob.id)
        assert received.message == message
        assert received.HasField("received")
        update = alice.updates["default:k"]
        assert update.state == common.OPERATION_STATE_SUCCEEDED
        assert update.manifest == f"manifest of {event.id}"
        assert update.external_id == submission.external_id
        request = operations.GetOperationRequest(
            stream=alice.stream_key.to_ref(), idempotency_key="default:k"
        )
        answer = await alice.wire.call(alice.wire.operations.GetOperation, request)
        assert answer.operation.state == common.OPERATION_STATE_SUCCEEDED
        assert answer.operation.method == "SendMessage"
        await until(lambda: [change.reachable for change in alice.peer_changes] == [True])
        assert alice.peer_changes[0].peer_id == bob.id


async def test_the_endpoint_names_node_certificate_and_end(tmp_path: Path) -> None:
    async with members(tmp_path, "alice") as (alice,):
        request = pb.GetEndpointRequest(node_name="node-alice")
        answer = await alice.wire.call(alice.stub.GetEndpoint, request)
        document = json.loads(answer.peer_json)
        assert list(document) == ["id", "endpoint", "cert"]
        assert document["id"] == answer.peer_id == "alice/node-alice"
        assert document["endpoint"].startswith("https://127.0.0.1:")
        assert document["cert"].startswith("-----BEGIN CERTIFICATE-----")
        assert answer.certificate_expires_s > 1_900_000_000
        bare = await alice.wire.call(alice.stub.GetEndpoint, pb.GetEndpointRequest())
        assert bare.peer_id == "alice"
        bad = pb.GetEndpointRequest(node_name="../x")
        assert await refused(alice.wire.call(alice.stub.GetEndpoint, bad)) == (
            INVALID,
            "INVALID_NAME",
        )
        key = tmp_path / "alice" / "i1" / "key.pem"
        assert key.stat().st_mode & 0o777 == 0o600


async def test_errors_have_their_codes(tmp_path: Path) -> None:
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        stub = alice.stub

        def message(key: str, **changes: str) -> Any:
            fields = {"recipient": bob.id, "sender": alice.id, "message": wrapper("x")} | changes
            request = pb.SendMessageRequest(context=alice.context(key), **fields)
            return alice.wire.call(stub.SendMessage, request)

        def blob(key: str, **changes: str) -> Any:
            fields = {
                "recipient": bob.id,
                "sender": alice.id,
                "network_namespace": NETWORK,
                "data_id": DATA_ID,
                "payload_ref": "own/x",
            } | changes
            request = pb.SendBlobRequest(context=alice.context(key), **fields)
            return alice.wire.call(stub.SendBlob, request)

        def peer(key: str, document: str) -> Any:
            request = pb.AddPeerRequest(
                context=alice.context(key), network_namespace=NETWORK, peer_json=document
            )
            return alice.wire.call(stub.AddPeer, request)

        not_found = grpc.StatusCode.NOT_FOUND
        cases = [
            (message("k1", recipient="nobody/x"), not_found, "UNKNOWN_PEER"),
            (message("k2", recipient="bob/../x"), INVALID, "INVALID_PEER_ID"),
            (message("k3", sender="bob/node-bob"), INVALID, "UNKNOWN_SENDER"),
            (message("k4", message="x"), INVALID, "MALFORMED_MESSAGE"),
            (message("k5", message="x" * 3_200_000), INVALID, "MESSAGE_TOO_LARGE"),
            (blob("k6"), not_found, "UNKNOWN_BLOB"),
            (blob("k7", data_id="x"), INVALID, "INVALID_ID"),
            (blob("k8", payload_ref=""), INVALID, "INVALID_ID"),
            (blob("k9", network_namespace="a/b"), INVALID, "INVALID_NAME"),
            (peer("k10", "{}"), INVALID, "INVALID_PEER"),
            (peer("k11", bob.document.replace("bob/", "rob/")), INVALID, "INVALID_CERTIFICATE"),
        ]
        for attempt, code, reason in cases:
            assert await refused(attempt) == (code, reason)
        reference = pb.DownloadBlobRequest(payload_ref="../../key.pem")
        call = stub.DownloadBlob(reference, metadata=alice.wire.metadata, timeout=5)
        assert await refused(call.read()) == (not_found, "UNKNOWN_BLOB")
        # A key that failed may come again with other arguments: nothing was done under it.
        await message("k1")
        await alice.ended(1)


async def test_peers_come_and_go(tmp_path: Path) -> None:
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        request = pb.AddPeerRequest(
            context=alice.context("again"), network_namespace=NETWORK, peer_json=bob.document
        )
        assert (await alice.wire.call(alice.stub.AddPeer, request)).replayed
        await bob.kill()
        await alice.send(bob, wrapper("never"), "default:k")
        # An answer that is empty on the wire (not replayed) is repeated like any other.
        for key, replayed in (("r1", False), ("r1", True), ("r2", True)):
            removal = pb.RemovePeerRequest(
                context=alice.context(key), network_namespace=NETWORK, peer_id=bob.id
            )
            answer = await alice.wire.call(alice.stub.RemovePeer, removal)
            assert answer.replayed is replayed
        await alice.ended(1)
        assert alice.updates["default:k"].state == common.OPERATION_STATE_FAILED


async def test_a_send_is_cancelled_or_too_late(tmp_path: Path) -> None:
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        await bob.kill()
        await alice.send(bob, wrapper("never"), "default:k")

        async def cancel(key: str) -> common.OperationState.ValueType:
            request = operations.CancelRequest(context=alice.context(key))
            answer = await alice.wire.call(alice.wire.operations.Cancel, request)
            state: common.OperationState.ValueType = answer.state
            return state

        assert await cancel("default:k") == common.OPERATION_STATE_CANCELLED
        await bob.start()
        await alice.send(bob, wrapper("sent"), "default:s")
        await alice.ended(2)
        assert await cancel("default:s") == common.OPERATION_STATE_SUCCEEDED
        assert alice.updates["default:k"].state == common.OPERATION_STATE_CANCELLED
        assert len(bob.messages()) == 1


async def test_blobs_are_stored_read_and_deleted(tmp_path: Path) -> None:
    async with members(tmp_path, "alice") as (alice,):
        content = random.Random(3).randbytes(2 * MIB + 3)
        blob = await alice.upload(content, DATA_ID, "u1")
        assert (blob.size, blob.hash) == (len(content), hashlib.sha256(content).hexdigest())
        assert await alice.upload(content, DATA_ID, "u1") == blob
        assert await alice.upload(content, DATA_ID, "u2") == blob
        assert await refused(alice.upload(b"other", DATA_ID, "u3")) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "KEY_REUSED",
        )
        assert await refused(alice.upload(b"x", "../../key.pem", "u4")) == (INVALID, "INVALID_ID")
        assert await alice.download(blob.payload_ref) == content
        assert await alice.download(blob.payload_ref, MIB + 1) == content[MIB + 1 :]
        assert await alice.download(blob.payload_ref, len(content)) == b""
        assert await refused(alice.download(blob.payload_ref, len(content) + 1)) == (
            INVALID,
            "INVALID_OFFSET",
        )
        for key, replayed in (("d1", False), ("d2", True)):
            request = pb.DeleteBlobRequest(context=alice.context(key), payload_ref=blob.payload_ref)
            assert (await alice.wire.call(alice.stub.DeleteBlob, request)).replayed is replayed
        assert await refused(alice.download(blob.payload_ref)) == (
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_BLOB",
        )


async def test_an_upload_without_its_end_leaves_nothing(tmp_path: Path) -> None:
    async with members(tmp_path, "alice") as (alice,):

        async def frames() -> AsyncIterator[pb.UploadBlobRequest]:
            header = pb.UploadBlobHeader(context=alice.context("u1"), data_id=DATA_ID)
            yield pb.UploadBlobRequest(header=header)
            yield pb.UploadBlobRequest(chunk=bytes(MIB))

        attempt = alice.wire.call(alice.stub.UploadBlob, frames())  # type: ignore[arg-type] # a stream
        assert await refused(attempt) == (INVALID, "UPLOAD_INCOMPLETE")
        folder = tmp_path / "alice" / "i1"
        left = [path for name in ("partial", "blobs") for path in (folder / name).rglob("*")]
        assert not [path for path in left if path.is_file()]


async def test_fifty_megabytes_are_never_held(tmp_path: Path) -> None:
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        small = await alice.upload(bytes(3 * MIB), str(uuid.uuid4()), "warm")
        await alice.send_blob(bob, small.payload_ref, str(uuid.uuid4()), "default:warm")
        await until(lambda: len(bob.blobs()) == 1)
        await bob.download(bob.blobs()[0].payload_ref)
        before = [peak_kib(member) for member in (alice, bob)]
        content = random.Random(50).randbytes(50 * MIB)
        blob = await alice.upload(content, DATA_ID, "up")
        await alice.send_blob(bob, blob.payload_ref, DATA_ID, "default:blob")
        await alice.ended(2)
        got = await bob.download(bob.blobs()[1].payload_ref)
        assert hashlib.sha256(got).hexdigest() == blob.hash == alice.updates["default:blob"].hash
        growth = [peak_kib(member) - kib for member, kib in zip((alice, bob), before, strict=True)]
        print(f"peak memory of sender and receiver grew by {growth} KiB over {before} KiB")
        assert max(growth) < GROWTH_MAX_KIB
