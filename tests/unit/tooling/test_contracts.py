"""Goal: a new room of the core cannot be forgotten in the import contracts.

Method: compare the packages that exist with the sources of each contract. (The layers contract is
exhaustive by itself; import-linter refuses to name a package that does not exist yet.)
"""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CORE = ROOT / "core" / "src" / "photinus_core"

PURE = {"model", "sequencing"}
CAPABILITIES = {
    "access",
    "messaging",
    "data",
    "identity",
    "definitions",
    "events",
    "contracts",
    "tokens",
    "operations",
    "namespaces",
}
ADAPTERS = {"store", "cluster", "host"}
EDGES = {"rpc", "app"}

SOURCES = {
    "The model and the sequencing machines are pure": PURE,
    "Generated protos and gRPC reach the edges of the core only": (
        PURE | {"ports", "store", "cluster"} | CAPABILITIES
    ),
    "Databases and ensembles are behind their adapters": (
        PURE | {"ports", "host", "rpc"} | CAPABILITIES
    ),
    "Capabilities and the API reach the world through ports": CAPABILITIES | {"rpc"},
    "Adapters know no capability": ADAPTERS,
    "The store does not decide": {"store"},
}


def rooms() -> set[str]:
    return {path.parent.name for path in CORE.glob("*/__init__.py")}


def test_every_room_is_known() -> None:
    assert rooms() <= PURE | {"ports"} | CAPABILITIES | ADAPTERS | EDGES


@pytest.mark.parametrize("name", SOURCES)
def test_contract_covers_every_room_it_is_about(name: str) -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = configuration["tool"]["importlinter"]["contracts"]
    sources = next(c["source_modules"] for c in contracts if c["name"].startswith(name))
    listed = {source.removeprefix("photinus_core.") for source in sources}
    assert listed == SOURCES[name] & rooms()
