"""The configuration of a member under test: as `photinus up` writes it, with proxies in between."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from tests.robustness.topology import CONNECTORS
from tests.support.chains import DEV_ADDRESSES, DEV_KEYS

CHAIN_ID: Final = 2021


def org_name(member: int) -> str:
    """Name of a member's organisation."""
    return f"org_{member}"


def write_config(
    folder: Path,
    *,
    member: int,
    grpc_port: int,
    chain_port: int,
    dx_port: int,
    dx_public_port: int,
    content: Path,
    contract: str,
) -> Path:
    """Writes the configuration of a core that launches its connectors and keeps its data in SQLite.

    Args:
        folder: Of the member.
        member: Its number.
        grpc_port: Where the core serves.
        chain_port: Where the connector finds the chain.
        dx_port: Where its data exchange listens.
        dx_public_port: Where others reach it.
        content: Shared storage of all members.
        contract: Address of the multiparty contract.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "photinus.core.yaml"
    config: dict[str, Any] = {
        "grpc": {"address": f"127.0.0.1:{grpc_port}"},
        "log": {"level": "info"},
        "plugins": {
            "database": [{"name": "database0", "type": "sqlite3", "sqlite3": {"url": "core.db"}}],
            "blockchain": [
                {
                    "name": "blockchain0",
                    "type": "ethereum",
                    "connector": {"launch": [program(CONNECTORS["ethereum"])]},
                    "ethereum": {
                        "rpc": {
                            "url": f"http://127.0.0.1:{chain_port}",
                            "wsUrl": f"ws://127.0.0.1:{chain_port}",
                        },
                        "chainId": CHAIN_ID,
                        "confirmations": 0,
                        "keys": [{"privateKey": DEV_KEYS[member]}],
                    },
                }
            ],
            "dataexchange": [
                {
                    "name": "dataexchange0",
                    "type": "ffdx",
                    "connector": {"launch": [program(CONNECTORS["dx"])]},
                    "ffdx": {
                        "listen": f"127.0.0.1:{dx_port}",
                        "endpoint": f"https://127.0.0.1:{dx_public_port}",
                        "organization": org_name(member),
                    },
                }
            ],
            "sharedstorage": [
                {
                    "name": "sharedstorage0",
                    "type": "ipfs",
                    "connector": {"launch": [program(CONNECTORS["ipfs"])]},
                    "ipfs": {"directory": str(content)},
                }
            ],
        },
        "namespaces": {
            "default": "default",
            "predefined": [
                {
                    "name": "default",
                    "defaultKey": DEV_ADDRESSES[member],
                    "multiparty": {
                        "enabled": True,
                        "networkNamespace": "default",
                        "org": {"name": org_name(member), "key": DEV_ADDRESSES[member]},
                        "node": {"name": f"node_{member}"},
                        "contract": [{"location": {"address": contract}, "firstEvent": "oldest"}],
                    },
                }
            ],
        },
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def program(name: str) -> str:
    """One of our programs, beside this Python."""
    return str(Path(sys.executable).parent / name)
