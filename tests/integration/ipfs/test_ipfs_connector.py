"""Goal: the connector does over its protocol, as a process, what its back ends do in ours.

Method: `photinus-ipfs` launched as the core launches it, once per back end; raw stubs; 50 MB with the peak memory
of the process read from the kernel; two processes on one directory; a node that goes away.
"""

import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2
from photinus.connector.v1 import shared_storage_pb2 as pb
from photinus_ipfs.unixfs import DagBuilder

from tests.integration.ipfs.conftest import Node, stop_node
from tests.support.wire import Child, Wire, child, dialled, reason_of

MIB = 1 << 20
STREAM = common.StreamRef(cluster_id="c1", namespace="ns1", consumer="core")
GROWTH_MAX_KIB = 40 * 1024
CALL_S = 30.0


def peak_kib(process: Child) -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.fixture
async def connector(tmp_path: Path) -> AsyncIterator[Child]:
    async with child("-m", "photinus_ipfs", "--data-dir", str(tmp_path / "data")) as process:
        yield process


@pytest.fixture
async def wire(connector: Child) -> AsyncIterator[Wire]:
    async with dialled(connector.address) as made:
        yield made


@pytest.fixture(params=["directory", "rpc", "gateway"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, node: Node) -> dict[str, Any]:
    api = {"api": {"url": f"http://{node.rpc}"}}
    by_kind: dict[str, dict[str, Any]] = {
        "directory": {"directory": str(tmp_path / "shared")},
        "rpc": api,
        "gateway": api | {"gateway": {"url": f"http://{node.gateway}"}},
    }
    return by_kind[request.param]


def context(key: str) -> common.MutationContext:
    return common.MutationContext(idempotency_key=key, stream=STREAM)


async def upload(wire: Wire, content: bytes, key: str = "k1", step: int = MIB) -> pb.UploadResponse:
    async def frames() -> AsyncIterator[pb.UploadRequest]:
        yield pb.UploadRequest(header=pb.UploadHeader(context=context(key)))
        for start in range(0, len(content), step):
            yield pb.UploadRequest(chunk=content[start : start + step])
        yield pb.UploadRequest(end=common.UploadEnd(size=len(content)))

    answer: pb.UploadResponse = await wire.call(wire.storage.Upload, frames(), CALL_S)  # type: ignore[arg-type] # a stream
    return answer


async def download(wire: Wire, ref: str, offset: int = 0, max_bytes: int = 0) -> bytes:
    request = pb.DownloadRequest(payload_ref=ref, offset=offset, max_bytes=max_bytes)
    stub: Any = wire.storage
    call = stub.Download(request, metadata=wire.metadata, timeout=CALL_S)
    return b"".join([answer.chunk async for answer in call])


async def refused(attempt: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await attempt
    return error.value.code(), reason_of(error.value)[0]


async def test_bytes_come_back(wire: Wire, settings: dict[str, Any]) -> None:
    await wire.configure(settings)
    content = random.Random(5).randbytes(700_001)
    stored = await upload(wire, content)
    assert stored.payload_ref.startswith("Qm")
    assert stored.size == len(content)
    assert await download(wire, stored.payload_ref) == content
    assert await download(wire, stored.payload_ref, offset=600_000) == content[600_000:]
    again = await upload(wire, content, key="k2")
    assert again.payload_ref == stored.payload_ref


async def test_pins(wire: Wire, settings: dict[str, Any]) -> None:
    await wire.configure(settings)
    ref = (await upload(wire, f"pins of {settings}".encode())).payload_ref
    answers = []
    for number, (method, request) in enumerate(
        [
            (wire.storage.Pin, pb.PinRequest),
            (wire.storage.Unpin, pb.UnpinRequest),
            (wire.storage.Unpin, pb.UnpinRequest),
            (wire.storage.Pin, pb.PinRequest),
        ]
    ):
        call = request(context=context(f"pin{number}"), payload_ref=ref)
        answers.append((await wire.call(method, call)).replayed)
    assert answers == [True, False, True, False]


async def test_errors_have_their_codes(wire: Wire, settings: dict[str, Any]) -> None:
    await wire.configure(settings)
    ref = (await upload(wire, bytes(1000))).payload_ref
    unknown = "QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh51"
    assert await refused(download(wire, unknown)) == (
        grpc.StatusCode.NOT_FOUND,
        "UNKNOWN_PAYLOAD",
    )
    assert await refused(download(wire, "../../etc/passwd")) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_PAYLOAD_REF",
    )
    assert await refused(download(wire, ref, max_bytes=999)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PAYLOAD_TOO_LARGE",
    )
    assert await refused(download(wire, ref, offset=1001)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_OFFSET",
    )


async def test_damage_ends_the_stream(wire: Wire, tmp_path: Path) -> None:
    await wire.configure({"directory": str(tmp_path / "shared")})
    ref = (await upload(wire, bytes(600_000))).payload_ref
    (path,) = (tmp_path / "shared" / "objects").rglob(ref)
    with path.open("r+b") as file:
        file.seek(500_000)
        file.write(b"x")
    assert await refused(download(wire, ref)) == (grpc.StatusCode.DATA_LOSS, "HASH_MISMATCH")


async def test_fifty_megabytes_are_never_held(
    connector: Child, wire: Wire, settings: dict[str, Any]
) -> None:
    await wire.configure(settings)
    await download(wire, (await upload(wire, bytes(3 * MIB), key="warm")).payload_ref)
    before = peak_kib(connector)
    content = random.Random(50).randbytes(50 * MIB)
    stored = await upload(wire, content)
    got = await download(wire, stored.payload_ref)
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
    growth = peak_kib(connector) - before
    print(f"peak memory grew by {growth} KiB over {before} KiB for 50 MiB up and down")
    assert growth < GROWTH_MAX_KIB


async def test_two_processes_share_a_directory(wire: Wire, tmp_path: Path) -> None:
    shared = {"directory": str(tmp_path / "shared")}
    await wire.configure(shared)
    async with (
        child("-m", "photinus_ipfs", "--data-dir", str(tmp_path / "data2")) as other,
        dialled(other.address) as other_wire,
    ):
        await other_wire.configure(shared)
        mine = await upload(wire, bytes(500_000), key="mine")
        theirs = await upload(other_wire, b"x" * 500_000, key="theirs")
        assert await download(other_wire, mine.payload_ref) == bytes(500_000)
        assert await download(wire, theirs.payload_ref) == b"x" * 500_000
        same = await upload(other_wire, bytes(500_000), key="same")
        assert same.payload_ref == mine.payload_ref


async def test_a_broken_upload_leaves_nothing(wire: Wire, tmp_path: Path) -> None:
    await wire.configure({"directory": str(tmp_path / "shared")})

    async def frames() -> AsyncIterator[pb.UploadRequest]:
        yield pb.UploadRequest(header=pb.UploadHeader(context=context("k1")))
        yield pb.UploadRequest(chunk=bytes(MIB))
        yield pb.UploadRequest(header=pb.UploadHeader(context=context("k1")))

    code, _ = await refused(wire.call(wire.storage.Upload, frames()))  # type: ignore[arg-type] # a stream
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert not [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]


async def test_an_upload_without_its_end_is_not_kept(wire: Wire, settings: dict[str, Any]) -> None:
    """The end of a stream alone does not tell a complete upload from one that broke off."""
    await wire.configure(settings)
    content = f"half of {settings}".encode()

    async def frames() -> AsyncIterator[pb.UploadRequest]:
        yield pb.UploadRequest(header=pb.UploadHeader(context=context("k1")))
        yield pb.UploadRequest(chunk=content)

    code, reason = await refused(wire.call(wire.storage.Upload, frames()))  # type: ignore[arg-type] # a stream
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UPLOAD_INCOMPLETE")
    builder = DagBuilder()
    builder.add(content)
    unpin = pb.UnpinRequest(context=context("k2"), payload_ref=str(builder.finish()))
    assert (await wire.call(wire.storage.Unpin, unpin)).replayed  # it was never kept


async def test_the_status_follows_the_node(wire: Wire, mortal_node: Node) -> None:
    await wire.configure({"api": {"url": f"http://{mortal_node.rpc}"}})
    watch = wire.watch_status()
    assert (await watch.read()).state == connector_pb2.RUNTIME_STATE_OK
    stop_node(mortal_node)
    watch.call.cancel()
    code, reason = await refused(upload(wire, b"hello"))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "DOWNSTREAM_DOWN")


async def test_a_node_that_is_away_at_the_start_is_degraded(wire: Wire, mortal_node: Node) -> None:
    stop_node(mortal_node)
    await wire.configure({"api": {"url": f"http://{mortal_node.rpc}"}})
    status = await wire.watch_status().read()
    assert status.state == connector_pb2.RUNTIME_STATE_DEGRADED
    assert "does not answer" in status.reason


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"api":{"url":"ftp://x"}}', "/api/url"),
        ('{"directory":"x","api":{"url":"http://127.0.0.1:5001"}}', "/directory"),
        ('{"gateway":{"url":"http://127.0.0.1:8080"}}', "/gateway"),
        ('{"maxPayloadBytes":0}', "/maxPayloadBytes"),
        ('{"nonsense":1}', "/nonsense"),
    ],
)
async def test_bad_settings_are_found(wire: Wire, text: str, pointer: str) -> None:
    request = connector_pb2.ValidateRequest(config_json=text)
    answer = await wire.call(wire.connector.Validate, request)
    assert [entry.pointer for entry in answer.diagnostics] == [pointer]


async def test_a_folder_that_cannot_be_used_is_refused(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, reason = await refused(wire.configure({"directory": str(tmp_path / "file")}))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INVALID_CONFIG")
