"""Goal: a connector process starts, tells its address, ends when told, and forgets nothing when killed.

Method: the README's listing and the ledger of tests/support as real child processes.
"""

import asyncio
import json
import re
import signal
import stat
from pathlib import Path

import grpc
import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import shared_storage_pb2 as storage

from tests.support.ledger import CORE_STREAM, pin_request
from tests.support.wire import ROOT, Wire, child, dialled, reason_of

LEDGER = ("-m", "tests.support.ledger")
LISTING = re.compile(r"```python\n(.*?)```", re.DOTALL)


def upload(key: str, *chunks: bytes) -> list[storage.UploadRequest]:
    context = common.MutationContext(idempotency_key=key, stream=CORE_STREAM.to_ref())
    frames = [storage.UploadRequest(header=storage.UploadHeader(context=context))]
    frames += [storage.UploadRequest(chunk=chunk) for chunk in chunks]
    return [*frames, storage.UploadRequest(end=common.UploadEnd(size=sum(map(len, chunks))))]


def served(address: str) -> bool:
    """Whether the socket of an address is there, served or stale."""
    return Path(address.removeprefix("unix:")).exists()


async def read_back(wire: Wire, ref: str, offset: int = 0) -> bytes:
    request = storage.DownloadRequest(payload_ref=ref, offset=offset)
    call = wire.storage.Download(request, metadata=wire.metadata, timeout=10)
    return b"".join([answer.chunk async for answer in call])


async def test_the_connector_of_the_readme_works(run_dir: Path) -> None:
    listing = LISTING.search((ROOT / "connectors/sdk/README.md").read_text())
    assert listing is not None
    program = run_dir / "disk.py"
    program.write_text(listing[1])
    assert len([line for line in listing[1].splitlines() if line.strip()]) <= 40
    async with (
        child(str(program), "--data-dir", f"{run_dir}/data") as disk,
        dialled(disk.address) as wire,
    ):
        assert disk.handshake["handshake"] == 1
        assert disk.handshake["protocol"] == ["v1"]
        assert disk.handshake["pid"] == disk.process.pid
        await wire.configure({"root": f"{run_dir}/root", "token": "hunter22"})
        frames = upload("k1", b"a" * 1_000_000, b"b" * 500_000)
        kept = await wire.storage.Upload(iter(frames), metadata=wire.metadata, timeout=10)
        assert kept.size == 1_500_000
        again = await wire.storage.Upload(iter(frames), metadata=wire.metadata, timeout=10)
        assert again == kept
        assert await read_back(wire, kept.payload_ref) == b"a" * 1_000_000 + b"b" * 500_000
        assert await read_back(wire, kept.payload_ref, 1_499_999) == b"b"

        other = upload("k1", b"other")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.storage.Upload(iter(other), metadata=wire.metadata, timeout=10)
        assert reason_of(caught.value)[0] == "KEY_REUSED"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_back(wire, "nothing")
        assert reason_of(caught.value)[0] == "UNKNOWN_PAYLOAD"
        (run_dir / "root" / kept.payload_ref).write_bytes(b"changed")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_back(wire, kept.payload_ref)
        assert caught.value.code() == grpc.StatusCode.DATA_LOSS
        disk.process.send_signal(signal.SIGTERM)
        assert await disk.ended() == 0
        assert not served(disk.address)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([storage.UploadRequest(chunk=b"x")], "HEADER_MISSING"),
        ([], "HEADER_MISSING"),
        (upload("k")[:1] + upload("k"), "UNEXPECTED_HEADER"),
        (upload("k", b"cut")[:-1], "UPLOAD_INCOMPLETE"),
        (
            upload("k", b"cut")[:1] + upload("k", b"short")[1:2] + upload("k")[1:],
            "UPLOAD_INCOMPLETE",
        ),
        (upload("k", b"x" * ((1 << 20) + 1)), "CHUNK_SIZE"),
    ],
    ids=["no header", "nothing", "two headers", "no end", "wrong end", "large chunk"],
)
async def test_uploads_keep_their_form(
    run_dir: Path, frames: list[storage.UploadRequest], reason: str
) -> None:
    listing = LISTING.search((ROOT / "connectors/sdk/README.md").read_text())
    assert listing is not None
    (run_dir / "disk.py").write_text(listing[1])
    async with (
        child(f"{run_dir}/disk.py", "--data-dir", f"{run_dir}/data") as disk,
        dialled(disk.address) as wire,
    ):
        await wire.configure({"root": f"{run_dir}/root"})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.storage.Upload(iter(frames), metadata=wire.metadata, timeout=10)
        assert reason_of(caught.value)[0] == reason
        assert not list((run_dir / "root").iterdir())


async def test_killed_while_it_works_it_is_asked_again_with_the_same_key(run_dir: Path) -> None:
    command = (*LEDGER, "--data-dir", f"{run_dir}/data", "--address", f"unix:{run_dir}/x.sock")
    async with child(*command) as first, dialled(first.address) as wire:
        await wire.configure()
        await wire.call(wire.blockchain.SubmitBatchPin, pin_request("done"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k", "die"))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert await first.ended() == 9
    # The socket is stale now; the next process takes its place and remembers the keys.
    assert served(f"unix:{run_dir}/x.sock")
    async with child(*command) as second, dialled(second.address) as wire:
        await wire.configure()
        answer = await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k", "die"))
        assert not answer.submission.replayed
        done = await wire.call(wire.blockchain.SubmitBatchPin, pin_request("done"))
        assert done.submission.replayed
        stream = wire.stream()
        await stream.open(CORE_STREAM)
        updates = [e.operation_update.idempotency_key for e in (await stream.batch()).events]
        assert updates == ["done", "k"], "neither was acked before"
    calls = (run_dir / "data" / "i1" / "calls.txt").read_text().splitlines()
    assert calls == ["done False", "k False", "k True"]


async def test_a_second_process_does_not_take_over_a_served_socket(run_dir: Path) -> None:
    command = (*LEDGER, "--data-dir", f"{run_dir}/data", "--address", f"unix:{run_dir}/x.sock")
    async with child(*command) as first:
        process = await asyncio.create_subprocess_exec(
            str(ROOT / ".venv/bin/python"),
            *command,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode != 0
        assert out == b""
        assert "tests.support.ledger: Another process serves" in err.decode()
        async with dialled(first.address) as wire:
            await wire.connector.Describe(connector.DescribeRequest(), timeout=5)


async def test_a_launched_connector_ends_with_its_core(run_dir: Path) -> None:
    env = {"PHOTINUS_LAUNCHED": "1"}
    async with child(*LEDGER, "--data-dir", f"{run_dir}/data", env=env) as launched:
        assert launched.process.stdin is not None
        launched.process.stdin.close()
        assert await launched.ended() == 0


async def test_secrets_and_stores_are_kept_from_others(run_dir: Path) -> None:
    async with child(*LEDGER, "--data-dir", f"{run_dir}/data") as ledger:
        async with dialled(ledger.address) as wire:
            await wire.configure({"token": "hunter22-token", "log_token": True})
            await wire.connector.Validate(
                connector.ValidateRequest(config_json='{"token":["hunter22-token"]}'), timeout=5
            )
        mode = stat.S_IMODE((run_dir / "data" / "i1").stat().st_mode)
        assert mode == 0o700
        ledger.process.send_signal(signal.SIGTERM)
        await ledger.ended()
        log = await ledger.log()
    assert "hunter22" not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line["message"] == "the token is ***" for line in lines)


async def test_told_to_end_it_lets_the_core_ack_what_it_sent(run_dir: Path) -> None:
    async with child(*LEDGER, "--data-dir", f"{run_dir}/data") as ledger:
        async with dialled(ledger.address) as wire:
            await wire.configure()
            await wire.call(wire.blockchain.SubmitBatchPin, pin_request("k"))
            stream = wire.stream()
            await stream.open(CORE_STREAM)
            batch = await stream.batch()
            ledger.process.send_signal(signal.SIGTERM)
            watch = wire.watch_status()
            while (await watch.read()).state != connector.RUNTIME_STATE_STOPPING:
                pass
            await stream.ack(batch.seq)
            assert (await stream.receive("drained")).drained.last_seq == batch.seq
        assert await ledger.ended() == 0


async def test_the_schema_is_printed(run_dir: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(ROOT / ".venv/bin/python"),
        *LEDGER,
        "--print-schema",
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert json.loads(out)["properties"]["token"]["anyOf"][0]["writeOnly"] is True
