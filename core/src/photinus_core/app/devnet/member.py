"""One member of a development network: its configuration, its core and its gateway."""

from __future__ import annotations

import asyncio
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import grpc
import yaml

from photinus_core.app.devnet.chain import CHAIN_ID
from photinus_core.app.devnet.layout import (
    DEV_ADDRESSES,
    DEV_KEYS,
    SPARE_KEYS,
    Layout,
    MemberState,
)
from photinus_core.app.devnet.processes import Processes, find_program

NAMESPACE: Final = "default"
READY_S: Final = 60.0
PROBE_S: Final = 2.0


def write_config(layout: Layout, member: MemberState, chain_port: int, contract: str) -> Path:
    """Writes a member's configuration; gives its path. The same input gives the same file."""
    folder = layout.member(member.index)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "photinus.core.yaml"
    text = "# Written by `photinus up`; changes are lost at the next start.\n" + yaml.safe_dump(
        _config(layout, member, chain_port, contract), sort_keys=False
    )
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)  # before anything is in it: it holds keys
    path.write_text(text, encoding="utf-8")
    return path


def _config(layout: Layout, member: MemberState, chain_port: int, contract: str) -> dict[str, Any]:
    rpc = {
        "url": f"http://127.0.0.1:{chain_port}",
        "wsUrl": f"ws://127.0.0.1:{chain_port}",
    }
    return {
        "grpc": {"address": member.grpc_address},
        "log": {"level": "info"},
        "plugins": {
            "database": [{"name": "database0", "type": "sqlite3", "sqlite3": {"url": "core.db"}}],
            "blockchain": [
                {
                    "name": "blockchain0",
                    "type": "ethereum",
                    "connector": {"launch": [_beside("photinus-ethereum")]},
                    "ethereum": {
                        "rpc": rpc,
                        "chainId": CHAIN_ID,
                        "confirmations": 0,
                        "keys": [
                            {"privateKey": DEV_KEYS[member.index]},
                            {"privateKey": SPARE_KEYS[member.index]},
                        ],
                    },
                }
            ],
            "dataexchange": [
                {
                    "name": "dataexchange0",
                    "type": "ffdx",
                    "connector": {"launch": [_beside("photinus-dx")]},
                    "ffdx": {
                        "listen": f"127.0.0.1:{member.dx_port}",
                        "organization": member.org,
                    },
                }
            ],
            "sharedstorage": [
                {
                    "name": "sharedstorage0",
                    "type": "ipfs",
                    "connector": {"launch": [_beside("photinus-ipfs")]},
                    "ipfs": {"directory": str(layout.content.absolute())},
                }
            ],
        },
        "namespaces": {
            "default": NAMESPACE,
            "predefined": [
                {
                    "name": NAMESPACE,
                    "description": "The network of `photinus up`",
                    "defaultKey": DEV_ADDRESSES[member.index],
                    "multiparty": {
                        "enabled": True,
                        "networkNamespace": NAMESPACE,
                        "org": {"name": member.org, "key": DEV_ADDRESSES[member.index]},
                        "node": {"name": member.node},
                        "contract": [{"location": {"address": contract}, "firstEvent": "oldest"}],
                    },
                }
            ],
        },
    }


async def start_core(
    processes: Processes, layout: Layout, member: MemberState, config: Path
) -> None:
    """Starts a member's core with its connectors, and waits until its API answers.

    Raises:
        StartError: it did not come up.
    """
    name = f"member{member.index}-core"
    command = [sys.executable, "-m", "photinus_core.app.cli", "serve", "--config", str(config)]
    child = await processes.start(name, [*command, "--dir", str(layout.member(member.index))])
    await processes.wait_ready(child, lambda: _serves_grpc(member.grpc_port), READY_S)


async def start_gateway(processes: Processes, member: MemberState) -> None:
    """Starts a member's gateway and waits until it serves REST.

    Raises:
        StartError: it is not built, or did not come up.
    """
    command = [
        find_program("photinus-gateway", "PHOTINUS_GATEWAY"),
        *("-listen", f"127.0.0.1:{member.http_port}"),
        *("-core", f"dns:///{member.grpc_address}"),
    ]
    child = await processes.start(f"member{member.index}-gateway", command)
    await processes.wait_ready(child, lambda: _serves_http(member.http_port), READY_S)


async def _serves_grpc(port: int) -> bool:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            await asyncio.wait_for(channel.channel_ready(), PROBE_S)
        except TimeoutError:
            return False
        return True


async def _serves_http(port: int) -> bool:
    return await asyncio.to_thread(_probe, f"http://127.0.0.1:{port}/livez")


def _probe(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PROBE_S) as response:  # noqa: S310 - loopback
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _beside(name: str) -> str:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name
