"""Goal: the connector in memory keeps the protocol, as any other does.

Method: the full profile of the suite, twice. Launched with `--keep` it is killed and started again, and everything
must be there. Attached, as `photinus up --in-memory` runs it, it keeps nothing: what asks for more than the life of
the process does not apply, and only that.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from photinus_memory import World, connector_over
from photinus_sanity import Attached, Launched, Plan, Profile, Setup, Status, run_suite
from photinus_sanity.reports import line_of
from photinus_sanity.runner import Outcome
from photinus_sanity.targets import Target
from photinus_sdk import ConnectorServer

from tests.support.chains import ROOT

KEY, OTHER, FOREIGN = (f"0x{n:040x}" for n in (0xA1, 0xB1, 0xC1))
VALUE = {"name": "value", "schema": {"type": "integer", "details": {"type": "uint256"}}}
SETUP = Setup(
    {"member": "alice", "keys": [KEY]},
    {
        "second": {"settings": {"member": "bob", "keys": [OTHER]}},
        "blockchain": {
            "signingKey": KEY,
            "foreignKey": FOREIGN,
            "multiparty": {"location": {"address": f"0x{1:040x}"}, "version": 2},
            "contract": {
                "location": {"address": f"0x{2:040x}"},
                "invoke": {
                    "method": {"name": "set", "params": [VALUE], "details": {"emits": "Changed"}},
                    "inputs": [{"value": 77}, {"value": 78}],
                },
                "event": {"name": "Changed", "params": [VALUE]},
                "query": {"method": {"name": "get", "returns": [VALUE]}, "input": {}},
                "reverts": {
                    "method": {"name": "fail", "details": {"reverts": "never"}},
                    "input": {},
                },
            },
        },
        "tokens": {"signingKey": KEY, "otherAccount": OTHER},
        "sharedStorage": {"absentReference": "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG"},
    },
)
NEVER = {"CFG-012", "STO-012", "SEC-001", "SEC-002"}
"""It serves several instances, nothing can be changed behind it, and it has no secret."""


async def verify(target: Target) -> list[Outcome]:
    """Runs the full profile; nothing may fail."""
    outcomes = await run_suite(target, Plan(Profile.FULL, SETUP))
    failed = [line_of(outcome) for outcome in outcomes if outcome.status is Status.FAILED]
    assert not failed, "\n".join(failed)
    return outcomes


def left_out(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.check.id: o.message for o in outcomes if o.status is Status.NOT_APPLICABLE}


async def verify_kept() -> None:
    target = Launched((str(ROOT / ".venv" / "bin" / "photinus-memory"), "--keep"))
    assert set(left_out(await verify(target))) == NEVER


async def verify_in_memory(folder: Path) -> None:
    async with running(folder) as address:
        found = left_out(await verify(Attached(address)))
    others = {name for name in found if name not in NEVER}
    assert others
    assert {found[name] for name in others} == {"the connector was attached, not launched"}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[str]:
    folder.mkdir(mode=0o700)
    async with ConnectorServer(
        connector_over(World()), f"unix:{folder}/memory.sock", folder / "data"
    ) as server:
        yield server.address
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert not kept, "it wrote files"


async def test_the_connector_in_memory_passes_the_full_profile(tmp_path: Path) -> None:
    """Both at once: most of it is waiting."""
    async with asyncio.TaskGroup() as group:
        group.create_task(verify_kept())
        group.create_task(verify_in_memory(tmp_path / "m"))


async def test_a_process_leaves_nothing_behind(tmp_path: Path) -> None:
    """Without `--keep` there is no file in its folder, and none in a temporary one once it has ended."""
    (tmp_path / "tmp").mkdir()
    target = Launched(
        (str(ROOT / ".venv" / "bin" / "photinus-memory"),),
        data_dir=tmp_path / "data",
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    await target.start()
    assert await target.terminate() == 0
    await target.aclose()
    assert not (tmp_path / "data").exists()
    assert not list((tmp_path / "tmp").iterdir())
