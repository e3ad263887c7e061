"""Goal: cores and connectors of one major version of the protocol work together, older and newer.

Method: the other side is a process that speaks the protocol as it was released, from its descriptor
image alone, or as a later minor version may speak it: with fields, enum values, cases and frames that
nobody knew. The current host is run against such a connector, the current kit against such a core.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from photinus_core.host import Category, ConnectorHost, InstanceConfig
from photinus_core.model.ids import Epoch, Hash32, Namespace, Uuid
from photinus_core.ports.connectors import (
    BatchPinInput,
    CallKey,
    KeyIntent,
    MultipartyListener,
    NetworkActionSeen,
    WorkState,
)
from photinus_sdk import ConnectorServer

from tests.support.frozen_protos import VERSIONS, Protocol, released_files
from tests.support.host import StoringHandler, hosting, shown, until_state
from tests.support.ledger import Ledger
from tests.support.waiting import until

NS: Final = Namespace("ns1")
WAIT_S: Final = 120.0
EVENTS: Final = 10
LISTENER: Final = MultipartyListener("a", '{"address":"0x1"}', 2, "oldest")


@asynccontextmanager
async def other_side(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


@asynccontextmanager
async def connector(version: str, run_dir: Path) -> AsyncIterator[asyncio.StreamReader]:
    """A connector of that version; gives what it prints."""
    name = "tests.support.frozen_connector"
    async with other_side(name, version, f"{run_dir}/c.sock") as process:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"serving\n"
        yield process.stdout


@asynccontextmanager
async def current_core(run_dir: Path) -> AsyncIterator[ConnectorHost]:
    config = InstanceConfig("ledger0", Category.BLOCKCHAIN, address=f"unix:{run_dir}/c.sock")
    async with hosting(run_dir, config) as host:
        await host.wait_ready("ledger0", WAIT_S)
        yield host


def test_the_image_holds_the_protocol_and_what_it_is_made_of() -> None:
    files = {file.name for file in released_files().file}
    assert "photinus/connector/v1/event.proto" in files
    assert "google/rpc/status.proto" in files
    assert not any("api/v1" in name for name in files), "the API is not frozen yet"


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_current_core_uses_a_connector(version: str, run_dir: Path) -> None:
    async with connector(version, run_dir) as printed, current_core(run_dir) as host:
        assert await printed.readline() == b"accepted True \n"
        info = shown(host, "ledger0")
        assert info.version == "1.0.0"
        assert set(info.capabilities) >= {"events", "multiparty", "operations"}
        ledger = host.blockchain("ledger0")
        assert await ledger.normalize_location('{"address":"0x1"}') == '{"address":"0x1"}'
        assert (await ledger.resolve_key("0xA", KeyIntent.SIGN)).key == "0xA"
        pin = BatchPinInput(Uuid("t"), Uuid("b1"), Hash32("0" * 64), "", ())
        call = CallKey("ns1:1", NS, Epoch(1))
        first = await ledger.submit_batch_pin(call, "net", "0xabc", pin, "{}")
        again = await ledger.submit_batch_pin(call, "net", "0xabc", pin, "{}")
        assert (first.external_id, first.replayed) == ("0xb1", False)
        assert (again.external_id, again.replayed) == ("0xb1", True)
        ended = WorkState.PENDING if version == "next" else WorkState.SUCCEEDED
        assert first.state is ended, "a state that is not known is not an end"
        # A status of a kind to come may show for a moment.
        await until_state(host, "ledger0", "ready")


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_current_core_stores_a_connectors_events(version: str, run_dir: Path) -> None:
    handler = StoringHandler()
    async with current_core_with(version, run_dir) as (host, printed):
        ledger = host.blockchain("ledger0")
        stream = await ledger.open_stream(NS, "net", Epoch(1), [LISTENER], handler)
        await until(lambda: len(handler.ids) == EVENTS, WAIT_S)
        async with asyncio.timeout(WAIT_S):
            while await printed.readline() != f"acked {EVENTS}\n".encode():
                pass
        await stream.aclose()
        assert handler.ids == [f"a/{number}" for number in range(1, EVENTS + 1)]
        assert handler.checkpoints == {"a": b"10"}
        assert all(isinstance(e.body, NetworkActionSeen) for b in handler.batches for e in b.events)
        assert handler.troubles == []
        assert handler.resumed == 1, "nothing unknown ended the stream"


@asynccontextmanager
async def current_core_with(
    version: str, run_dir: Path
) -> AsyncIterator[tuple[ConnectorHost, asyncio.StreamReader]]:
    async with connector(version, run_dir) as printed, current_core(run_dir) as host:
        yield host, printed


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_events_stream_goes_on_behind_its_checkpoint(version: str, run_dir: Path) -> None:
    handler = StoringHandler({"a": b"7"})
    async with current_core_with(version, run_dir) as (host, _):
        ledger = host.blockchain("ledger0")
        stream = await ledger.open_stream(NS, "net", Epoch(1), [LISTENER], handler)
        await until(lambda: handler.checkpoints == {"a": b"10"}, WAIT_S)
        await stream.aclose()
    assert handler.ids == ["a/8", "a/9", "a/10"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_core_uses_the_current_kit(version: str, run_dir: Path) -> None:
    address = f"unix:{run_dir}/c.sock"
    async with (
        ConnectorServer(Ledger, address, run_dir / "data"),
        other_side("tests.support.frozen_core", version, address, "ledger0") as core,
    ):
        async with asyncio.timeout(WAIT_S):
            printed, _ = await core.communicate()
    assert core.returncode == 0
    said = json.loads(printed)
    control, calls, stream = said["control"], said["calls"], said["stream"]
    assert (control["name"], control["protocols"]) == ("ledger", ["v1"])
    assert control["kinds"] == [Protocol(version).value("ContractKind", "CONTRACT_KIND_BLOCKCHAIN")]
    assert control["findings"] == ["/events"]
    assert control["store"]
    assert control["ok"]
    assert calls == {
        "first": [False, "0xb1"],
        "again": [True, "0xb1"],
        "known": "0xb1",
        "listed": [] if version == "next" else ["ns:1"],
        "other arguments": ["ALREADY_EXISTS", "KEY_REUSED"],
        "invalid": ["INVALID_ARGUMENT", "INVALID_INPUTS"],
        "reverted": ["FAILED_PRECONDITION", "TRANSACTION_REVERTED"],
    }
    assert stream["kinds"][0] == "opened"
    assert stream["seen"] == [f"a/{number:012d}" for number in range(1, 6)]
    assert stream["checkpoint"] == "5"
    assert stream["drained"]
    assert stream["refused"] == ("later" if version == "next" else "")
