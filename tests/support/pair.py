"""Two members made by hand: nobody is registered yet, and each has another kind of database.

The first member keeps its things in PostgreSQL and has a namespace in gateway mode, `gw`, beside the network's;
the second keeps them in SQLite. It is the network of the golden recordings, as far as that is told in their README.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from photinus_core.app.devnet.chain import CHAIN_ID, answers, deploy_contract
from photinus_core.app.devnet.layout import DEV_ADDRESSES, DEV_KEYS, SPARE_KEYS

from tests.support import chains
from tests.support.rest import wait_until
from tests.support.solo import Solo, node_up, program, running

ACCOUNTS: Final = 16
MORE_KEYS: Final = (*DEV_KEYS[2:], *SPARE_KEYS)
"""Keys that the first member holds for identities of its applications."""


@contextmanager
def pair_up(folder: Path, postgres_url: str) -> Iterator[tuple[Solo, Solo]]:
    """Runs a chain with the multiparty contract and two members of it; ends all of them on leaving.

    Args:
        folder: Where everything is kept.
        postgres_url: An empty database for the first member.
    """
    databases = (
        {"type": "postgres", "postgres": {"url": postgres_url}},
        {"type": "sqlite3", "sqlite3": {"url": "core.db"}},
    )
    with ExitStack() as stack:
        port = stack.enter_context(_chain_up(folder))
        contract = asyncio.run(deploy_contract(port))
        members = []
        for index, database in enumerate(databases):
            home = folder / f"member{index}"
            home.mkdir()
            config = _config(index, port, contract, database, folder / "content")
            members.append(stack.enter_context(node_up(home, config)))
        for member in members:
            member.wait_for("/status", lambda status: "initializing" not in status["namespace"])
        yield members[0], members[1]


@contextmanager
def _chain_up(folder: Path) -> Iterator[int]:
    port = chains.free_port()
    command = [
        chains.program("anvil"),
        *("--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID)),
        *("--accounts", str(ACCOUNTS), "--silent"),
    ]
    with running(command, folder / "chain.log", subprocess.DEVNULL):
        wait_until(lambda: asyncio.run(answers(port)))
        yield port


def _config(
    index: int, port: int, contract: str, database: dict[str, Any], content: Path
) -> dict[str, Any]:
    keys = [DEV_KEYS[index], *(MORE_KEYS if index == 0 else ())]
    org = {"name": f"org_{index}", "key": DEV_ADDRESSES[index]}
    namespace = {
        "name": "default",
        "description": "Default predefined namespace",
        "plugins": ["database0", "blockchain0", "dataexchange0", "sharedstorage0"],
        "defaultKey": DEV_ADDRESSES[index],
        "multiparty": {
            "enabled": True,
            "org": org,
            "node": {"name": f"node_{index}"},
            "contract": [{"location": {"address": contract}, "firstEvent": "0"}],
        },
    }
    gateway = {
        "name": "gw",
        "description": "Gateway namespace",
        "plugins": ["database0", "blockchain0"],
        "defaultKey": DEV_ADDRESSES[index],
    }
    ethereum = {
        "rpc": {"url": f"http://127.0.0.1:{port}", "wsUrl": f"ws://127.0.0.1:{port}"},
        "chainId": CHAIN_ID,
        "confirmations": 0,
        "keys": [{"privateKey": each} for each in keys],
    }
    exchange = {"listen": "127.0.0.1:0", "organization": f"member_{index}"}
    return {
        "log": {"level": "info"},
        "plugins": {
            "database": [{"name": "database0", **database}],
            "blockchain": [_launched("blockchain0", "ethereum", "ethereum", ethereum)],
            "dataexchange": [_launched("dataexchange0", "ffdx", "dx", exchange)],
            "sharedstorage": [
                _launched("sharedstorage0", "ipfs", "ipfs", {"directory": str(content)})
            ],
        },
        "namespaces": {
            "default": "default",
            "predefined": [namespace, gateway] if index == 0 else [namespace],
        },
    }


def _launched(name: str, kind: str, connector: str, config: dict[str, Any]) -> dict[str, Any]:
    launch = {"launch": [program(f"photinus-{connector}")]}
    return {"name": name, "type": kind, "connector": launch, kind: config}
