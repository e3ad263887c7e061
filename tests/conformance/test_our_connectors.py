"""Goal: our own connectors keep the protocol.

Method: each is launched as the core would launch it, and the suite runs its full profile against it.
What does not apply is listed here, so that a check cannot quietly stop being run.
"""

import asyncio
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from photinus_sanity import Launched, Plan, Profile, Setup, Status, run_suite
from photinus_sanity.reports import line_of

from tests.support.chains import DEV_ADDRESSES, DEV_KEYS, ROOT, Chain, anvil

QUICK_DELIVERY = {"backoffInitialS": 0.02, "backoffMaxS": 0.2}
LEDGER_ONLY = {"EVT-003", "EVT-018", "EVT-020", "EVT-021", "EVT-023", "EVT-024", "IDM-012"}
SECRETS = {"SEC-001", "SEC-002"}


async def verify(name: str, setup: Setup, not_applicable: set[str]) -> None:
    """Runs the suite on a connector; what applies must hold, and exactly the listed (ids, groups) does not apply."""
    target = Launched((str(ROOT / ".venv" / "bin" / name),))
    outcomes = await run_suite(target, Plan(Profile.FULL, setup))
    failed = [line_of(outcome) for outcome in outcomes if outcome.status is Status.FAILED]
    assert not failed, f"{name}:\n" + "\n".join(failed)
    left_out = {o.check.id for o in outcomes if o.status is Status.NOT_APPLICABLE}
    listed = {o.check.id for o in outcomes if {o.check.id, o.check.group} & not_applicable}
    assert left_out == listed, name


async def verify_ipfs(directory: Path) -> None:
    """Shared storage on its embedded directory: it makes no events and submits nothing."""
    submitting = {"CFG-014", "DLN-003", "DLN-004", "LIM-004", "LIM-006"}
    submitting |= {f"IDM-0{n:02}" for n in (2, 4, 5, 9, 10, 11, 12)}
    left_out = {"EVT", "BLK", "TOK", "DX", "CFG-012", "STO-012", *SECRETS, *submitting}
    await verify("photinus-ipfs", Setup({"directory": str(directory)}), left_out)


async def verify_dx() -> None:
    """The data exchange, between two instances of it."""
    setup = Setup(
        {"organization": "alice", "delivery": QUICK_DELIVERY},
        {"second": {"settings": {"organization": "bob", "delivery": QUICK_DELIVERY}}},
    )
    await verify("photinus-dx", setup, {"BLK", "TOK", "STO", "CFG-012", *SECRETS, *LEDGER_ONLY})


async def verify_ethereum(chain: Chain) -> None:
    """The blockchain contract, on a development chain."""
    setup = await setup_for(chain)
    await verify("photinus-ethereum", setup, {"TOK", "DX", "STO", "CFG-012"})


async def test_ipfs_dx_and_ethereum_pass_the_full_profile(tmp_path: Path) -> None:
    """At the same time: most of it is waiting."""
    async with anvil() as chain, asyncio.TaskGroup() as group:
        group.create_task(verify_ipfs(tmp_path / "shared"))
        group.create_task(verify_dx())
        group.create_task(verify_ethereum(chain))


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
