"""Real chains for tests: anvil and geth in development mode, as child processes on loopback.

The programs are those that `make setup` installs; PHOTINUS_ANVIL and PHOTINUS_GETH name others. Ports are
free ones, every process is ended with its group.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from photinus_ethereum.rpc import HttpRpc, NodeUnavailableError, RpcError

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30.0
ARTEFACTS = ROOT / "contracts" / "ethereum" / "artifacts"

# Anvil's well-known development keys, those of the mnemonic "test test … junk".
DEV_KEYS = (
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
)
DEV_ADDRESSES = (
    "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
    "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
    "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
)


def program(name: str) -> str:
    """Path of a chain's program."""
    given = os.environ.get(f"PHOTINUS_{name.upper()}")
    installed = ROOT / ".toolchain" / "bin" / name
    found = given or (str(installed) if installed.exists() else shutil.which(name))
    assert found, f"{name} is not installed; `make setup` does it"
    return found


def artefact(name: str) -> dict[str, Any]:
    """A compiled contract: abi and bytecode."""
    loaded: dict[str, Any] = json.loads((ARTEFACTS / f"{name}.json").read_text())
    return loaded


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Chain:
    """A node under the test's control; `rpc` speaks to it directly."""

    command: Sequence[str]
    port: int
    ws_port: int
    rpc: HttpRpc = field(init=False)
    process: asyncio.subprocess.Process | None = None
    owner: str = DEV_ADDRESSES[2]
    """An account the node itself signs for."""

    def __post_init__(self) -> None:
        self.rpc = HttpRpc(self.url)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.ws_port}"

    async def start(self) -> None:
        """Starts the node and waits until it answers."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                try:
                    await self.rpc.call("eth_blockNumber")
                    return
                except (NodeUnavailableError, RpcError):
                    assert self.process.returncode is None, "the node ended at its start"
                    await asyncio.sleep(0.05)

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends the node."""
        if self.process is not None and self.process.returncode is None:
            os.killpg(self.process.pid, number)
            await self.process.wait()

    async def call(self, method: str, *params: Any) -> Any:
        return await self.rpc.call(method, *params)

    async def head(self) -> int:
        return int(await self.call("eth_blockNumber"), 16)

    async def mine(self, blocks: int = 1) -> None:
        """Mines blocks (anvil)."""
        await self.call("anvil_mine", hex(blocks))

    async def nonce(self, address: str, tag: str = "latest") -> int:
        return int(await self.call("eth_getTransactionCount", address, tag), 16)

    async def deploy(
        self, name: str, arguments: bytes = b"", sender: str = DEV_ADDRESSES[2]
    ) -> str:
        """Deploys a contract from an account of the node itself, and returns its address."""
        code = artefact(name)["bytecode"] + arguments.hex()
        sent = await self.call(
            "eth_sendTransaction", {"from": self.owner, "data": code, "gas": hex(5_000_000)}
        )
        receipt = await self.receipt(sent)
        address: str = receipt["contractAddress"].lower()
        return address

    async def receipt(self, tx_hash: str) -> dict[str, Any]:
        """A transaction's receipt, waited for."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                # A young geth answers that it is still indexing.
                with contextlib.suppress(RpcError):
                    found: dict[str, Any] = await self.call("eth_getTransactionReceipt", tx_hash)
                    if found:
                        return found
                await asyncio.sleep(0.02)

    async def transactions_of(self, address: str) -> list[dict[str, Any]]:
        """Everything an account has on the chain, in order."""
        found = []
        for number in range(await self.head() + 1):
            block = await self.call("eth_getBlockByNumber", hex(number), True)
            found += [tx for tx in block["transactions"] if tx["from"].lower() == address]
        return found


@asynccontextmanager
async def _running(chain: Chain) -> AsyncIterator[Chain]:
    async with chain.rpc:
        try:
            await chain.start()
            yield chain
        finally:
            with contextlib.suppress(ProcessLookupError):
                await chain.stop()


@asynccontextmanager
async def anvil(*options: str) -> AsyncIterator[Chain]:
    """An anvil that mines a block per transaction, unless options say otherwise."""
    port = free_port()
    command = (program("anvil"), "--port", str(port), "--silent", *options)
    async with _running(Chain(command, port, port)) as chain:
        yield chain


@asynccontextmanager
async def geth() -> AsyncIterator[Chain]:
    """A geth in development mode, state in memory, with the first development key funded."""
    port, ws_port = free_port(), free_port()
    command = [program("geth"), "--dev", "--http", "--http.addr", "127.0.0.1"]
    command += ["--http.port", str(port), "--http.api", "eth,net,web3,debug,txpool"]
    command += ["--ws", "--ws.addr", "127.0.0.1", "--ws.port", str(ws_port), "--ws.api", "eth"]
    command += ["--authrpc.addr", "127.0.0.1", "--authrpc.port", str(free_port())]
    command += ["--nodiscover", "--maxpeers", "0", "--port", "0", "--nat", "none", "--ipcdisable"]
    async with _running(Chain(tuple(command), port, ws_port)) as chain:
        (chain.owner,) = await chain.call("eth_accounts")
        for address in DEV_ADDRESSES:
            gift = {"from": chain.owner, "to": address, "value": hex(10**21)}
            await chain.receipt(await chain.call("eth_sendTransaction", gift))
        yield chain
