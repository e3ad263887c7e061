"""One member of a development network: its configuration, connectors, core replicas and gateway."""

from __future__ import annotations

import asyncio
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from photinus_core.app.devnet.chain import CHAIN_ID
from photinus_core.app.devnet.layout import (
    DEV_ADDRESSES,
    DEV_KEYS,
    SPARE_KEYS,
    ClusterState,
    Layout,
    MemberState,
)
from photinus_core.app.devnet.plugins import plugins_of
from photinus_core.app.devnet.postgres import member_url
from photinus_core.app.devnet.processes import Child, Processes, find_program, together
from photinus_core.app.devnet.zookeeper import chroot

NAMESPACE: Final = "default"
CONNECTORS: Final = ("photinus-ethereum", "photinus-dx", "photinus-ipfs")
CATEGORIES: Final = ("blockchain", "dataexchange", "sharedstorage")
"""What each of them is used for."""
WAVE_CONNECTORS: Final = 1
WAVE_CORES: Final = 2
WAVE_GATEWAYS: Final = 3
READY_S: Final = 60.0
PROBE_S: Final = 2.0
HTTP2_SETTINGS: Final = 4
HTTP2_HEADER_BYTES: Final = 9
HTTP2_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a member's configuration says of the network around it."""

    chain_port: int
    contract: str
    cluster: ClusterState | None = None


def write_configs(layout: Layout, member: MemberState, around: Surroundings) -> list[Path]:
    """Writes the configuration of each replica; gives their paths.

    The same input gives the same files.
    """
    folder = layout.member(member.index)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for replica, address in enumerate(member.grpc_addresses):
        config = _config(layout, member, around)
        config["grpc"]["address"] = address
        if "cluster" in config:
            config["cluster"]["replica"] = f"{member.node}-{replica}"
        path = folder / (f"photinus.core.{replica}.yaml" if replica else "photinus.core.yaml")
        text = "# Written by `photinus up`; changes are lost at the next start.\n"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)  # before anything is in it: it holds keys
        path.write_text(text + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        paths.append(path)
    return paths


def _config(layout: Layout, member: MemberState, around: Surroundings) -> dict[str, Any]:
    rpc = {
        "url": f"http://127.0.0.1:{around.chain_port}",
        "wsUrl": f"ws://127.0.0.1:{around.chain_port}",
    }
    ethereum, exchange, storage = (_reached(member, n) for n in range(len(CONNECTORS)))
    return {
        "grpc": {},
        "log": {"level": "info"},
        **_cluster(member, around.cluster),
        "plugins": {
            "database": [_database(member, around.cluster)],
            "blockchain": [
                {
                    "name": "blockchain0",
                    "type": "ethereum",
                    "connector": ethereum,
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
                    "connector": exchange,
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
                    "connector": storage,
                    "ipfs": {"directory": str(layout.content.absolute())},
                }
            ],
            **plugins_of(layout, member),
        },
        "namespaces": namespaces(member, around.contract),
    }


def namespaces(member: MemberState, contract: str) -> dict[str, Any]:
    """The part of a member's configuration that says which network it is in, and as whom."""
    key = DEV_ADDRESSES[member.index]
    return {
        "default": NAMESPACE,
        "predefined": [
            {
                "name": NAMESPACE,
                "description": "The network of `photinus up`",
                "defaultKey": key,
                "multiparty": {
                    "enabled": True,
                    "networkNamespace": NAMESPACE,
                    "org": {"name": member.org, "key": key},
                    "node": {"name": member.node},
                    "contract": [{"location": {"address": contract}, "firstEvent": "oldest"}],
                },
            }
        ],
    }


def _reached(member: MemberState, connector: int) -> dict[str, Any]:
    """How the core reaches a connector: launches it, or is told where it runs on its own."""
    if not member.connector_ports:
        return {"launch": [_beside(CONNECTORS[connector])]}
    return {"address": f"127.0.0.1:{member.connector_ports[connector]}", "insecure": True}


def _database(member: MemberState, cluster: ClusterState | None) -> dict[str, Any]:
    if cluster is None:
        return {"name": "database0", "type": "sqlite3", "sqlite3": {"url": "core.db"}}
    url = member_url(cluster.postgres, cluster.id, member.index)
    return {"name": "database0", "type": "postgres", "postgres": {"url": url}}


def _cluster(member: MemberState, cluster: ClusterState | None) -> dict[str, Any]:
    if cluster is None or not cluster.zookeeper:
        return {}
    place = {"hosts": cluster.zookeeper, "chroot": chroot(cluster.id, member.index)}
    return {"cluster": {"zookeeper": place}}


async def start_connectors(processes: Processes, layout: Layout, member: MemberState) -> None:
    """Starts the connectors that several replicas attach to, and waits until they listen.

    Raises:
        StartError: one did not come up.
    """
    if member.connector_ports:
        brought = plugins_of(layout, member)
        ours = [n for n, category in enumerate(CATEGORIES) if category not in brought]
        await together(*(_start_connector(processes, layout, member, n) for n in ours))


async def _start_connector(
    processes: Processes, layout: Layout, member: MemberState, number: int
) -> None:
    program, port = CONNECTORS[number], member.connector_ports[number]
    name = program.removeprefix("photinus-")
    command = [
        *(_beside(program), "--address", f"127.0.0.1:{port}", "--insecure"),
        *("--data-dir", str(layout.member(member.index) / "connectors" / name)),
    ]
    child = await processes.start(f"member{member.index}-{name}", command, WAVE_CONNECTORS)
    await processes.wait_ready(child, lambda: _serves_grpc(port), READY_S)


async def start_core(
    processes: Processes, layout: Layout, member: MemberState, replica: int, config: Path
) -> None:
    """Starts a replica of a member's core, and waits until its API answers.

    Raises:
        StartError: it did not come up.
    """
    name = f"member{member.index}-core{f'-{replica}' if replica else ''}"
    command = [sys.executable, "-m", "photinus_core.app.cli", "serve", "--config", str(config)]
    command += ["--dir", str(layout.member(member.index))]
    child = await processes.start(name, command, WAVE_CORES)
    port = (member.grpc_port, *member.more_grpc_ports)[replica]
    await processes.wait_ready(child, lambda: _serves_grpc(port), READY_S)


async def start_gateway(processes: Processes, member: MemberState) -> None:
    """Starts a member's gateway and waits until it serves REST.

    Raises:
        StartError: it is not built, or did not come up.
    """
    command = [
        find_program("photinus-gateway", "PHOTINUS_GATEWAY"),
        *("-listen", f"127.0.0.1:{member.http_port}"),
        *("-core", ",".join(member.grpc_addresses)),
    ]
    child = await processes.start(f"member{member.index}-gateway", command, WAVE_GATEWAYS)
    await wait_gateway(processes, child, member)


async def wait_gateway(processes: Processes, child: Child, member: MemberState) -> None:
    """Waits until a gateway serves REST.

    Raises:
        StartError: it did not come up.
    """
    await processes.wait_ready(child, lambda: _serves_http(member.http_port), READY_S)


async def _serves_grpc(port: int) -> bool:
    """Whether a gRPC server greets who connects.

    Asked in HTTP/2 itself: a gRPC client's threads do not bear that processes are started beside them.
    """
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(HTTP2_GREETING)
                header = await reader.readexactly(HTTP2_HEADER_BYTES)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    return header[3] == HTTP2_SETTINGS


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
