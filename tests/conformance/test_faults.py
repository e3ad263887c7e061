"""Goal: the suite has teeth: a good connector passes all of it, and every kind of bad one is caught by the check
that is there for it. No check is one that cannot fail.

Method: a connector in memory with switchable faults, written on the bare protos. Each fault is run against the one
check that must catch it; times in the checks are shortened.
"""

from dataclasses import dataclass

import pytest
from photinus_sanity import Plan, Profile, Status, all_checks, run_suite, runner, streams, wire
from photinus_sanity.catalogue import Check
from photinus_sanity.checks import dln, dsc, evt, evt_chaos, evt_more
from photinus_sanity.reports import line_of
from photinus_sanity.runner import run_check
from photinus_sanity.session import Session

from tests.conformance.memory.connector import InMemory
from tests.conformance.memory.setup import ALL, SETUP
from tests.conformance.memory.world import World

QUIET_S = 0.12

# Fault, the check that catches it, and the contract it shows in.
FAULTS = """
describe-slow DSC-001
describe-changes DSC-002
name-upper DSC-003
version-loose DSC-004
other-protocol DSC-005
contract-twice DSC-006
schema-broken DSC-007
no-vendor DSC-008
claims-unserved DSC-009
serves-unclaimed DSC-010 storage
no-reflection DSC-011
always-wrong CFG-001
validate-blind CFG-002
validate-blind CFG-003
no-pointer CFG-003
bad-config-taken CFG-004
store-id-each-time CFG-005
revision-ignored CFG-006
offers-more CFG-007
store-id-no-uuid CFG-008
any-instance-name CFG-009
default-instance CFG-010
shared-store CFG-011
second-taken CFG-012
notify-refused CFG-013
configure-restarts CFG-014
store-id-lost CFG-015
no-replay IDM-001
key-forgotten IDM-001
key-forgotten IDM-002
key-forgotten IDM-003
arguments-ignored IDM-003
arguments-ignored IDM-003 dx
race IDM-004
keys-unscoped IDM-005
key-optional IDM-006
stream-optional IDM-007
unknown-key-pending IDM-008
method-forgotten IDM-009
list-newest-first IDM-010
tombstone-ignored IDM-011
cancel-always IDM-012
keys-in-memory IDM-013
keys-in-memory IDM-013 storage
keys-in-memory IDM-014
keys-in-memory IDM-014 dx
no-error-info ERR-001
long-errors ERR-002
no-disposition ERR-003
internal-for-input ERR-004
deadline-optional DLN-001
deadline-optional DLN-002
waits-for-block DLN-003
effect-before-key DLN-004
leaves-locks DLN-005
opened-late EVT-001
seq-gap EVT-002
signer-reordered EVT-002
checkpoint-ahead EVT-003
ack-ignored EVT-004 dx
ack-not-cumulative EVT-005
window-ignored EVT-005
epoch-ignored EVT-006
listener-ends-stream EVT-007
no-progress EVT-008
window-bytes-ignored EVT-009
window-bytes-ignored EVT-009 dx
no-superseded EVT-010
epoch-in-memory EVT-011
stale-call-taken EVT-012
nack-ignored EVT-013
remove-ignored EVT-014
drained-early EVT-015
inbox-dropped-when-sent EVT-016 dx
ids-change EVT-016
ids-reused EVT-017
checkpoint-unchecked EVT-018
second-open-taken EVT-019
updates-once EVT-020
ack-ignored EVT-020
shared-window EVT-021
batch-size-ignored EVT-022
order-swapped EVT-022
progress-ahead EVT-023
newest-is-oldest EVT-024
inbox-in-memory EVT-030 dx
writes-hold-up-calls EVT-032
inbox-dropped-when-sent EVT-033 dx
waits-for-old-stream EVT-034
not-serving HLT-001
status-without-since HLT-002
drain-ignored HLT-003
ends-badly HLT-005
socket-left HLT-007
unknown-fields-refused LIM-001
enum-ends-process LIM-002
garbage-taken LIM-003
few-listeners LIM-004
few-calls LIM-005
listener-twice-taken LIM-006
secret-logged SEC-001
secret-told SEC-002
secret-unmarked SEC-003
open-socket SEC-004
key-not-canonical BLK-001
any-key-held BLK-002
contexts-sorted BLK-003
ends-failed BLK-004
signer-reordered BLK-005
action-prefix BLK-006
bad-pin-taken BLK-007
epoch-optional BLK-008
location-as-given BLK-009
version-1 BLK-010
no-timestamp BLK-011
status-of-nothing BLK-012
no-param-schema BLK-013
event-misnamed BLK-014
revert-sent BLK-015
interface-id-random BLK-016
never-overlaps BLK-017
no-symbol TOK-001 tokens
pool-id-lost TOK-002 tokens
amount-rounded TOK-003 tokens
subject-random TOK-004 tokens
any-amount TOK-005 tokens
any-pool TOK-006 tokens
endpoint-changes DX-001 dx
peer-never-known DX-002 dx
text-reencoded DX-003 dx
receipt-early DX-004 dx
blob-last DX-005 dx
unknown-peer-taken DX-006 dx
any-message-size DX-007 dx
wrong-hash DX-008 dx
upload-without-end DX-009 dx
blob-kept DX-010 dx
any-node DX-011 dx
removed-peer-kept DX-012 dx
large-chunks STO-001 storage
reference-random STO-002 storage
upload-without-end STO-003 storage
two-headers STO-004 storage
offset-ignored STO-005 storage
max-bytes-ignored STO-006 storage
unknown-is-empty STO-007 storage
pin-always-new STO-008 storage
upload-key-ignored STO-009 storage
broken-upload-keeps-key STO-010 storage
files-in-memory STO-011 storage
unchecked STO-012 storage
"""
# Seen with a process: tests/conformance/test_command.py. A frozen one cannot be simulated.
WITH_A_PROCESS = {"HLT-004", "HLT-006", "EVT-031"}


@dataclass(frozen=True)
class Case:
    """A fault, and what must catch it."""

    fault: str
    check: Check
    contract: str


def cases() -> list[Case]:
    by_id = {check.id: check for check in all_checks()}
    rows = [line.split() for line in FAULTS.split("\n") if line]
    return [Case(row[0], by_id[row[1]], row[2] if len(row) > 2 else "blockchain") for row in rows]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, so that what never comes is missed soon."""
    monkeypatch.setattr(streams, "WAIT_S", 1.0)
    monkeypatch.setattr(runner, "CHECK_TIMEOUT_S", 8.0)
    monkeypatch.setattr(wire, "CALL_S", 3.0)
    for module in (evt, evt_more):
        monkeypatch.setattr(module, "PROGRESS_S", 0.5)
        monkeypatch.setattr(module, "PROGRESS_TOLERANCE_S", 0.3)
    monkeypatch.setattr(dsc, "DESCRIBE_S", 0.2)
    monkeypatch.setattr(dln, "SUBMIT_S", 0.4)
    monkeypatch.setattr(dln, "ANSWER_S", 0.8)
    monkeypatch.setattr(evt_chaos, "TAKEN_OVER_S", 0.8)


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.fault} {case.check.id}")
async def test_each_fault_is_caught(case: Case, impatient: None) -> None:
    world = World(case.fault, contracts=(case.contract,))
    async with Session(InMemory(world), SETUP, QUIET_S) as session:
        why_not = case.check.does_not_apply(session)
        assert not why_not, why_not
        outcome = await run_check(session, case.check)
    assert outcome.status is Status.FAILED, f"{case.fault} is not caught by {case.check.id}"
    print(outcome.message)


def test_every_check_catches_some_fault() -> None:
    caught = {case.check.id for case in cases()}
    assert {check.id for check in all_checks()} - caught == WITH_A_PROCESS


@pytest.mark.parametrize("contracts", [ALL, ("tokens",), ("dx",), ("storage",)], ids="+".join)
async def test_without_faults_everything_passes(contracts: tuple[str, ...]) -> None:
    world = World(contracts=contracts)
    outcomes = await run_suite(InMemory(world), Plan(Profile.CHAOS, SETUP, quiet_s=QUIET_S))
    bad = [line_of(outcome) for outcome in outcomes if outcome.status is Status.FAILED]
    assert not bad, "\n" + "\n".join(bad)
    if contracts == ALL:
        left_out = {o.check.id for o in outcomes if o.status is Status.NOT_APPLICABLE}
        assert left_out == {*WITH_A_PROCESS, "CFG-012"}
