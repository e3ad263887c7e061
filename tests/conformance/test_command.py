"""Goal: the console command and the pytest plugin do what the guide says: choose, run, report, and exit with the right
code; and what only a process can do wrong is caught.

Method: the command in this process on the connector in memory, with and without faults; once, and for the plugin, all
of it as processes, as a user would run it.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from photinus_sanity import Attached, Launched, Plan, Profile, Status, all_checks, cli, run_suite

from tests.conformance.memory.connector import InMemory
from tests.conformance.memory.setup import ALL, SETUP
from tests.conformance.memory.world import World
from tests.support.wire import ROOT, child

LIMIT_S = 60
MEMORY = "tests.conformance.memory.connector"


@dataclass(frozen=True)
class Run:
    """What a command came to."""

    code: int
    out: str
    err: str


Sanity = Callable[..., Run]


@pytest.fixture
def sanity(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sanity:
    """Runs the command in this process; `faults` are those of the connector it gets."""

    def run(*arguments: str, faults: tuple[str, ...] = ()) -> Run:
        if "--launch" not in arguments:
            world = World(*faults, contracts=ALL)
            monkeypatch.setattr(cli, "_target", lambda _: InMemory(world))
            if arguments[0] in ("run", "describe"):
                arguments = (*arguments, "--launch", "memory")
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        said = capsys.readouterr()
        monkeypatch.undo()
        return Run(int(ended.value.code or 0), said.out, said.err)

    return run


async def command(*arguments: str, cwd: Path = ROOT) -> Run:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    return Run(process.returncode or 0, out.decode(), err.decode())


def launch(*faults: str) -> str:
    return f"{sys.executable} -m {MEMORY} {' '.join(faults)}"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Options that name settings and fixture."""
    (tmp_path / "settings.json").write_text(json.dumps(SETUP.settings))
    (tmp_path / "fixture.json").write_text(json.dumps(SETUP.fixture))
    given = ("--settings", tmp_path / "settings.json", "--fixture", tmp_path / "fixture.json")
    return tuple(map(str, given))


async def test_a_good_connector_passes_and_is_reported(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    junit, report = tmp_path / "junit.xml", tmp_path / "report.json"
    found = await command(
        *("-m", "photinus_sanity", "run", "--launch", launch(), *files),
        *("--only", "DSC", "CFG-006", "SEC-001", "HLT-004"),
        *("--junit", str(junit), "--json", str(report)),
    )
    assert found.code == 0, found.out + found.err
    assert "0 failed" in found.out
    rows = json.loads(report.read_text())
    assert rows["connector"] == {"name": "memory", "version": "1.0.0"}
    assert {"DSC-001", "CFG-006", "SEC-001"} < {row["id"] for row in rows["checks"]}
    suites = ET.parse(junit).getroot()
    assert [suite.get("name") for suite in suites] == ["DSC", "CFG", "HLT", "SEC"]
    assert not suites.findall(".//failure")


def test_a_bad_connector_fails_and_is_told_what_to_fix(
    tmp_path: Path, files: tuple[str, ...], sanity: Sanity
) -> None:
    junit, known = tmp_path / "junit.xml", tmp_path / "known"
    only = ("--only", "CFG-005", "CFG-006", "DSC-008")
    faults = ("revision-ignored", "no-vendor")
    found = sanity("run", *files, *only, "--junit", str(junit), faults=faults)
    assert found.code == 1
    (line,) = [line for line in found.out.splitlines() if line.startswith("FAILED")]
    assert "CFG-006" in line
    assert "fix:   Keep the last revision" in found.out
    assert "warning  DSC-008" in found.out, "a SHOULD does not decide"
    (failure,) = ET.parse(junit).getroot().findall(".//failure")
    assert "STALE_REVISION" in str(failure.get("message"))

    known.write_text("CFG-006  # until the store keeps revisions\n")
    tolerant = ("run", *files, *only, "--known-failing", str(known))
    found = sanity(*tolerant, faults=faults)
    assert found.code == 0, found.out
    assert "1 known failures" in found.out
    known.write_text("CFG-006\nCFG-005\n")
    found = sanity(*tolerant, faults=faults)
    assert found.code == 4, "CFG-005 does not fail"
    assert "stale in --known-failing, take it out: CFG-005" in found.out
    found = sanity(*tolerant, "--strict", faults=faults)
    assert found.code == 1, "with --strict DSC-008 decides"


def test_what_cannot_be_used_has_codes_of_its_own(
    tmp_path: Path, files: tuple[str, ...], sanity: Sanity
) -> None:
    unreachable = sanity("run", "--launch", "false")
    assert unreachable.code == 3
    assert "The first line on standard output must be the handshake" in unreachable.err
    assert sanity("run", "--launch", "no-such-program").code == 3
    bad = tmp_path / "bad.json"
    bad.write_text("[]")
    refused = sanity("run", "--settings", str(bad))
    assert refused.code == 2
    assert "must hold a JSON object" in refused.err
    bad.write_text('{"name": 5}')
    refused = sanity("run", "--settings", str(bad))
    assert refused.code == 3
    assert "The settings were refused" in refused.err
    nobody = sanity("run", *files, "--only", "XYZ-001")
    assert nobody.code == 2
    assert "there are no checks XYZ-001" in nobody.err
    neither = sanity("list", "--launch", "x")
    assert neither.code == 2


def test_the_guide_knows_every_part_of_the_fixture() -> None:
    """What the checks read is documented, or part of something that is."""
    guide = (ROOT / "docs/connectors/sanity.md").read_text()
    sources = Path(str(cli.__file__)).parent.rglob("*.py")
    used = {
        path
        for source in sources
        for path in re.findall(r'(?:fixture|get)\(\s*"([a-zA-Z]+\.[a-zA-Z.]+)"', source.read_text())
    }
    assert {"second.settings", "blockchain.signingKey", "tokens.config"} <= used
    parts = {part for path in used for part in [path, path.rpartition(".")[0]] if "." in part}
    documented = {part for part in parts if f"`{part}`" in guide}
    assert not {p for p in used if p not in documented and p.rpartition(".")[0] not in documented}


def test_list_and_describe(sanity: Sanity) -> None:
    listed = sanity("list")
    assert listed.code == 0
    assert all(check.id in listed.out and check.fix in listed.out for check in all_checks())
    quick = json.loads(sanity("list", "--profile", "quick", "--json").out)
    wanted = [check.id for check in all_checks() if check.profile is Profile.QUICK]
    assert [row["id"] for row in quick] == wanted
    described = sanity("describe")
    assert described.code == 0
    assert json.loads(described.out)["name"] == "memory"


async def test_checks_are_repeated_up_to_their_first_failure() -> None:
    """`once-forgetful` loses its keys in the second restart only."""
    world = World("once-forgetful", contracts=("storage",))
    plan = Plan(Profile.FULL, SETUP, ("IDM-013", "STO-011", "DSC-001"), repeat=3)
    outcomes = await run_suite(InMemory(world), plan)
    found = {outcome.check.id: outcome.status for outcome in outcomes}
    passed, failed = Status.PASSED, Status.FAILED
    assert found == {"IDM-013": failed, "STO-011": passed, "DSC-001": passed}
    assert world.restarts == 2 + 3, "terminated up to the failure, killed three times"


async def test_an_attached_connector_is_neither_ended_nor_restarted() -> None:
    async with child("-m", MEMORY) as running:
        plan = Plan(Profile.FULL, SETUP, ("DSC", "HLT", "STO", "SEC"))
        outcomes = await run_suite(Attached(running.address), plan)
        assert running.process.returncode is None
    assert not [outcome for outcome in outcomes if outcome.status is Status.FAILED]
    why = {o.check.id: o.message for o in outcomes if o.status is Status.NOT_APPLICABLE}
    assert why.keys() == {
        "HLT-003",
        "HLT-004",
        "HLT-005",
        "HLT-006",
        "HLT-007",
        "STO-011",
        "SEC-001",
    }
    assert set(why.values()) == {"the connector was attached, not launched"}


@pytest.mark.parametrize(
    ("fault", "check_id"),
    [("loose-handshake", "HLT-004"), ("outlives-core", "HLT-006"), ("ignores-sigterm", "HLT-005")],
)
async def test_faults_of_a_process_are_caught(
    fault: str, check_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("photinus_sanity.targets.END_S", 1.0)
    target = Launched((sys.executable, "-m", MEMORY, fault), cwd=ROOT)
    (outcome,) = await run_suite(target, Plan(Profile.FULL, SETUP, (check_id,)))
    assert outcome.status is Status.FAILED


async def test_a_frozen_process_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """EVT-031 and the process' own checks pass on the good one, so their failures mean something."""
    monkeypatch.setattr("photinus_sanity.checks.evt_chaos.FROZEN_S", 0.3)
    target = Launched((sys.executable, "-m", MEMORY), cwd=ROOT)
    only = ("EVT-031", "HLT-004", "HLT-005", "HLT-006")
    outcomes = await run_suite(target, Plan(Profile.CHAOS, SETUP, only))
    assert [outcome.status for outcome in outcomes] == [Status.PASSED] * len(only), outcomes


async def test_a_stream_lost_by_a_freeze_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("photinus_sanity.checks.evt_chaos.FROZEN_S", 1.2)
    monkeypatch.setattr("photinus_sanity.streams.WAIT_S", 2.0)
    target = Launched((sys.executable, "-m", MEMORY, "freeze-drops-streams"), cwd=ROOT)
    (outcome,) = await run_suite(target, Plan(Profile.CHAOS, SETUP, ("EVT-031",)))
    assert outcome.status is Status.FAILED, outcome


async def test_the_pytest_plugin_runs_the_same_checks(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    (tmp_path / "test_mine.py").write_text(
        "def test_keeps_the_protocol(sanity_outcome):\n    sanity_outcome.verify()\n"
    )
    options = [option.replace("--", "--sanity-", 1) for option in files]
    found = await command(
        *("-m", "pytest", "-q", "-p", "no:hypothesispytest", "--rootdir", str(tmp_path)),
        *("-k", "DSC or CFG-006 or EVT-005", *options),
        *("--sanity-launch", launch("window-ignored", "no-vendor")),
        cwd=tmp_path,
    )
    assert found.code == 1
    assert "test_keeps_the_protocol[EVT-005]" in found.out
    assert "fix: Count unacked batches yourself" in found.out
    assert "1 failed, 11 passed" in found.out
    assert "1 xfailed" in found.out, "a SHOULD is shown, and does not fail"
