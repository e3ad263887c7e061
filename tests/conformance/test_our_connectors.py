"""Goal: our own connectors keep the protocol.

Method: each is launched as the core would launch it, and `connector-sanity` runs its full profile against it.
What does not apply is listed here, so that a check cannot quietly stop being run.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from photinus_sanity import Launched, Outcome, Plan, Profile, Setup, Status, run_suite
from photinus_sanity.catalogue import GROUPS
from photinus_sanity.reports import line_of

from tests.support.chains import DEV_ADDRESSES, DEV_KEYS, ROOT, Chain, anvil, artefact

QUICK_DELIVERY = {"backoffInitialS": 0.02, "backoffMaxS": 0.2}
LEDGER_ONLY = {"EVT-003", "EVT-018", "EVT-020", "EVT-021", "EVT-023", "EVT-024", "IDM-012"}
SECRETS = {"SEC-001", "SEC-002"}


def launched(name: str) -> Launched:
    return Launched((str(ROOT / ".venv" / "bin" / name),))


async def verified(target: Launched, setup: Setup, not_applicable: set[str]) -> list[Outcome]:
    """Runs the suite; everything that applies must hold, and exactly the listed does not apply."""
    outcomes = await run_suite(target, Plan(Profile.FULL, setup))
    failed = [line_of(outcome) for outcome in outcomes if outcome.status is Status.FAILED]
    assert not failed, "\n" + "\n".join(failed)
    left_out = {o.check.id for o in outcomes if o.status is Status.NOT_APPLICABLE}
    wanted = {
        o.check.id
        for o in outcomes
        if o.check.id in not_applicable or o.check.group in not_applicable
    }
    assert left_out == wanted
    return outcomes


async def test_ipfs_with_its_embedded_directory(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    setup = Setup({"directory": str(shared)})
    submitting = {"CFG-014", "DLN-003", "DLN-004", "LIM-004", "LIM-006"}
    submitting |= {f"IDM-0{n:02}" for n in (2, 4, 5, 9, 10, 11, 12)}
    left_out = {"EVT", "BLK", "TOK", "DX", "CFG-012", "STO-012", *SECRETS, *submitting}
    assert left_out - set(GROUPS)
    await verified(launched("photinus-ipfs"), setup, left_out)


async def test_dx_between_two_members() -> None:
    setup = Setup(
        {"organization": "alice", "delivery": QUICK_DELIVERY},
        {"second": {"settings": {"organization": "bob", "delivery": QUICK_DELIVERY}}},
    )
    left_out = {"BLK", "TOK", "STO", "CFG-012", *SECRETS, *LEDGER_ONLY}
    await verified(launched("photinus-dx"), setup, left_out)


@pytest.fixture
async def chain_setup() -> Any:
    """A setup for anvil with the multiparty contract and the probe on it."""
    async with anvil() as chain:
        yield await setup_for(chain)


async def setup_for(chain: Chain) -> Setup:
    firefly = await chain.deploy("Firefly")
    probe = await chain.deploy("Probe", encode(["uint256", "address"], [7, firefly]))
    settings = {
        "rpc": {"url": chain.url, "wsUrl": chain.ws_url},
        "confirmations": 0,
        "keys": [{"privateKey": DEV_KEYS[0]}],
    }
    fixture = {
        "blockchain": {
            "signingKey": DEV_ADDRESSES[0],
            "foreignKey": DEV_ADDRESSES[2],
            "multiparty": {"location": {"address": firefly}, "version": 2},
            "contract": {
                "location": {"address": probe},
                "invoke": {
                    "method": ffi("set", ("newValue", "uint256")),
                    "inputs": [{"newValue": "77"}, {"newValue": "78"}],
                },
                "event": ffi("Changed", ("from", "address", True), ("value", "uint256")),
                "query": {
                    "method": {**ffi("get"), "returns": params(("", "uint256"))},
                    "input": {},
                },
                "reverts": {
                    "method": ffi("set", ("newValue", "uint256")),
                    "input": {"newValue": "13"},
                },
            },
        },
        "second": {"settings": {**settings, "keys": [{"privateKey": DEV_KEYS[1]}]}},
    }
    return Setup(settings, fixture)


def ffi(name: str, *entries: tuple[Any, ...]) -> dict[str, Any]:
    """A method or event as a FireFly interface describes it."""
    return {"name": name, "params": params(*entries)}


def params(*entries: tuple[Any, ...]) -> list[dict[str, Any]]:
    found = []
    for name, kind, *indexed in entries:
        details = {"type": kind, **({"indexed": True} if indexed else {})}
        found.append({"name": name, "schema": {"type": json_type(kind), "details": details}})
    return found


def json_type(kind: str) -> str:
    return "integer" if kind.startswith("uint") else "string"


async def test_ethereum_on_anvil(chain_setup: Setup) -> None:
    abi = {entry.get("name") for entry in artefact("Probe")["abi"]}
    assert {"set", "get", "Changed"} <= abi, json.dumps(sorted(map(str, abi)))
    left_out = {"TOK", "DX", "STO", "CFG-012"}
    await verified(launched("photinus-ethereum"), chain_setup, left_out)
