"""The configuration of a member's core: as `photinus up` writes it, with proxies in between."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.robustness.topology import CONNECTORS
from tests.support.chains import DEV_ADDRESSES, DEV_KEYS

CHAIN_ID: Final = 2021
CHROOT: Final = "/chaos"
SESSION_S: Final = 4


@dataclass(frozen=True, slots=True)
class CoreConfig:
    """What a core is told of the network around it; all ports are on loopback.

    Attributes:
        member: Number of the member.
        replica: Number of the core among the member's.
        grpc_port: Where it serves.
        chain_port: Where the ethereum connector finds the chain.
        dx_port: Where the data exchange listens.
        dx_public_port: Where others reach it.
        content: Shared storage of all members.
        contract: Address of the multiparty contract.
        connector_ports: Where connectors that run on their own are found; without, the core launches them.
        postgres: URL of the database; empty for SQLite.
        zookeeper_port: Where ZooKeeper is found; 0 for the local elector.
        peer_port: Where other replicas reach this core.
    """

    member: int
    replica: int
    grpc_port: int
    chain_port: int
    dx_port: int
    dx_public_port: int
    content: Path
    contract: str
    connector_ports: dict[str, int]
    postgres: str = ""
    zookeeper_port: int = 0
    peer_port: int = 0


def org_name(member: int) -> str:
    """Name of a member's organisation."""
    return f"org_{member}"


def program(name: str) -> str:
    """One of our programs, beside this Python."""
    return str(Path(sys.executable).parent / name)


def write_config(folder: Path, core: CoreConfig) -> Path:
    """Writes the configuration of a core; gives its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"photinus.core.{core.replica}.yaml"
    config = {
        "grpc": {"address": f"127.0.0.1:{core.grpc_port}"},
        "log": {"level": "info"},
        **_cluster(core),
        "plugins": {
            "database": [_database(core)],
            "blockchain": [
                {
                    "name": "blockchain0",
                    "type": "ethereum",
                    "connector": _connector(core, "ethereum"),
                    "ethereum": {
                        "rpc": {
                            "url": f"http://127.0.0.1:{core.chain_port}",
                            "wsUrl": f"ws://127.0.0.1:{core.chain_port}",
                        },
                        "chainId": CHAIN_ID,
                        "confirmations": 0,
                        "keys": [{"privateKey": DEV_KEYS[core.member]}],
                    },
                }
            ],
            "dataexchange": [
                {
                    "name": "dataexchange0",
                    "type": "ffdx",
                    "connector": _connector(core, "dx"),
                    "ffdx": {
                        "listen": f"127.0.0.1:{core.dx_port}",
                        "endpoint": f"https://127.0.0.1:{core.dx_public_port}",
                        "organization": org_name(core.member),
                    },
                }
            ],
            "sharedstorage": [
                {
                    "name": "sharedstorage0",
                    "type": "ipfs",
                    "connector": _connector(core, "ipfs"),
                    "ipfs": {"directory": str(core.content)},
                }
            ],
        },
        "namespaces": {"default": "default", "predefined": [_namespace(core)]},
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def _namespace(core: CoreConfig) -> dict[str, Any]:
    key = DEV_ADDRESSES[core.member]
    return {
        "name": "default",
        "defaultKey": key,
        "multiparty": {
            "enabled": True,
            "networkNamespace": "default",
            "org": {"name": org_name(core.member), "key": key},
            "node": {"name": f"node_{core.member}"},
            "contract": [{"location": {"address": core.contract}, "firstEvent": "oldest"}],
        },
    }


def _connector(core: CoreConfig, name: str) -> dict[str, Any]:
    if name in core.connector_ports:
        return {"address": f"127.0.0.1:{core.connector_ports[name]}", "insecure": True}
    return {"launch": [program(CONNECTORS[name])]}


def _database(core: CoreConfig) -> dict[str, Any]:
    if core.postgres:
        return {"name": "database0", "type": "postgres", "postgres": {"url": core.postgres}}
    return {"name": "database0", "type": "sqlite3", "sqlite3": {"url": "core.db"}}


def _cluster(core: CoreConfig) -> dict[str, Any]:
    if not core.zookeeper_port:
        return {}
    return {
        "cluster": {
            "replica": f"core-{core.member}-{core.replica}",
            "address": f"127.0.0.1:{core.peer_port}",
            "zookeeper": {
                "hosts": f"127.0.0.1:{core.zookeeper_port}",
                "chroot": f"{CHROOT}/member{core.member}",
                "sessionTimeout": f"{SESSION_S}s",
            },
        }
    }
