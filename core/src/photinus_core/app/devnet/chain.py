"""The development chain: anvil, its state kept in a file, with FireFly's contract on it."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from photinus_core.app.devnet.layout import DEV_ADDRESSES, MEMBERS_MAX, Layout
from photinus_core.app.devnet.processes import Child, Processes, StartError, find_program

NAME: Final = "chain"
CHAIN_ID: Final = 2021
STATE_INTERVAL_S: Final = 1
READY_S: Final = 20.0
MINED_S: Final = 20.0
CALL_S: Final = 5.0
GAS: Final = "0x4c4b40"


async def start_chain(processes: Processes, layout: Layout, port: int) -> Child:
    """Starts anvil on the state of the last time, or on an empty one.

    Raises:
        StartError: it is not installed, or does not start.
    """
    layout.chain.mkdir(parents=True, exist_ok=True)
    command = [
        find_program("anvil", "PHOTINUS_ANVIL"),
        *("--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID)),
        *("--accounts", str(2 * MEMBERS_MAX)),
        *("--state", str(layout.chain_state), "--state-interval", str(STATE_INTERVAL_S)),
        *("--gas-limit", "1000000000", "--silent"),
    ]
    child = await processes.start(NAME, command)
    await processes.wait_ready(child, lambda: answers(port), READY_S)
    return child


async def answers(port: int) -> bool:
    """Whether the chain can be asked."""
    try:
        await call(port, "eth_blockNumber", [])
    except (OSError, ValueError):
        return False
    return True


async def deploy_contract(port: int) -> str:
    """Deploys the multiparty contract from one of anvil's own accounts; gives its address.

    Raises:
        StartError: the chain did not take it.
    """
    bytecode = artifact()["bytecode"]
    code = bytecode if bytecode.startswith("0x") else f"0x{bytecode}"
    sent = await call(
        port, "eth_sendTransaction", [{"from": DEV_ADDRESSES[-1], "data": code, "gas": GAS}]
    )
    async with asyncio.timeout(MINED_S):
        while (receipt := await _receipt(port, sent)) is None:  # noqa: ASYNC110 - a remote state
            await asyncio.sleep(0.05)
    if receipt["status"] != "0x1":
        message = f"the contract was not deployed: {receipt}"
        raise StartError(message)
    return str(receipt["contractAddress"]).lower()


async def _receipt(port: int, sent: str) -> Any:
    return await call(port, "eth_getTransactionReceipt", [sent])


async def has_contract(port: int, address: str) -> bool:
    """Whether there is code at an address."""
    return str(await call(port, "eth_getCode", [address, "latest"])) not in ("0x", "None")


async def call(port: int, method: str, params: list[Any]) -> Any:
    """Calls the chain over JSON-RPC.

    Raises:
        OSError: it does not answer.
        ValueError: it answers with an error.
    """
    return await asyncio.to_thread(_call, port, method, params)


def _call(port: int, method: str, params: list[Any]) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=CALL_S) as response:  # noqa: S310 - likewise
        answer = json.load(response)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["result"]


def artifact() -> dict[str, Any]:
    """The compiled contract: beside this module in an installed package, else in the checkout."""
    packaged = files(__package__) / "Firefly.json"
    if packaged.is_file():
        text = packaged.read_text()
    else:
        root = Path(__file__).resolve().parents[5]
        text = (root / "contracts/ethereum/artifacts/Firefly.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found
