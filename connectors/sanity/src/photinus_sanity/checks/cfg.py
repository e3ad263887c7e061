"""CFG: settings, instances, and what Configure promises."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator
from itertools import islice

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import operation_pb2 as operations

from photinus_sanity import needs
from photinus_sanity.catalogue import Phase, Profile, must
from photinus_sanity.probe import EXISTS, INVALID, NOT_FOUND, PRECONDITION, Probe, refused
from photinus_sanity.schemas import broken
from photinus_sanity.session import SECOND
from photinus_sanity.sources import source_of
from photinus_sanity.violations import Violation, require
from photinus_sanity.wire import INSTANCE_HEADER, Refusal

RULE = "protocol.md §2 Describe → Validate → Configure"
WRONG_VALUES_MAX = 10


async def _findings(probe: Probe, text: str) -> list[common.Diagnostic]:
    request = connector.ValidateRequest(config_json=text)
    answer = await probe.wire.call("ConnectorService.Validate", request, metadata=())
    return list(answer.diagnostics)


def _errors(found: list[common.Diagnostic]) -> list[common.Diagnostic]:
    return [entry for entry in found if entry.severity == common.SEVERITY_ERROR]


@must("CFG-001", rule=RULE, fix="Validate must not find errors in what Configure takes.")
async def good_settings(probe: Probe) -> None:
    """Validate finds no error in the settings in use, and every finding has severity and one-line summary."""
    found = await _findings(probe, probe.session.settings_json)
    require(not _errors(found), f"it finds {[entry.summary for entry in _errors(found)]}")
    for entry in found:
        require(entry.severity, "a diagnostic without severity")
        require(entry.summary.strip(), "a diagnostic without summary")
        require("\n" not in entry.summary, "a summary of several lines")


@must(
    "CFG-002", rule=RULE, fix="Answer a diagnostic, not a gRPC error, for text that is no object."
)
async def not_an_object(probe: Probe) -> None:
    """Validate answers a diagnostic for text that is no JSON object."""
    for text in ("[]", "{", "7"):
        try:
            found = await _findings(probe, text)
        except Refusal as refusal:
            raise Violation(f"for {text!r} the check itself fails: {refusal}") from None
        require(_errors(found), f"no error for {text!r}")


@must("CFG-003", rule=RULE, fix="Check the settings against the schema; point at the value.")
async def wrong_value(probe: Probe) -> None:
    """Validate finds a value of a wrong type and points at it."""
    tried = islice(broken(probe.session.schema, probe.session.setup.settings), WRONG_VALUES_MAX)
    for wrong in tried:
        found = _errors(await _findings(probe, json.dumps(wrong.settings)))
        require(found, f"no error for a wrong value at {wrong.pointer}")
        pointers = [entry.pointer for entry in found]
        near = any(p and (wrong.pointer + "/").startswith(p + "/") for p in pointers)
        below = any(p.startswith(wrong.pointer + "/") for p in pointers)
        require(near or below, f"for a wrong value at {wrong.pointer} the pointers are {pointers}")


@must("CFG-004", rule=RULE, fix="Check everything before anything changes; keep what is in force.")
async def refused_whole(probe: Probe) -> None:
    """Configure refuses unusable settings with INVALID_CONFIG, and the former ones stay in force."""
    session = probe.session
    await refused(
        session.configure(probe.wire, "[]", session.revision),
        INVALID,
        "INVALID_CONFIG",
        what="Configure with settings that are no object",
    )
    for wrong in broken(session.schema, session.setup.settings):
        await refused(
            session.configure(probe.wire, json.dumps(wrong.settings), session.revision),
            INVALID,
            "INVALID_CONFIG",
            what=f"Configure with a wrong value at {wrong.pointer}",
        )
        break
    watch = probe.wire.answers("ConnectorService.WatchStatus", connector.WatchStatusRequest())
    status = await watch.read()
    watch.cancel()
    require(
        status.state in (connector.RUNTIME_STATE_OK, connector.RUNTIME_STATE_DEGRADED),
        f"afterwards the state is {connector.RuntimeState.Name(status.state)}",
    )


@must("CFG-005", rule=RULE, fix="Compare with the settings in force; when equal, answer the same.")
async def idempotent(probe: Probe) -> None:
    """Configure with the same bytes gives the same answer."""
    again = await probe.session.configure(probe.wire, probe.session.setup.settings)
    require(again.store_id == probe.session.configured.store_id, "the store id changed")
    require(
        list(again.contracts) == list(probe.session.configured.contracts), "the contracts changed"
    )


@must("CFG-006", rule=RULE, fix="Keep the last revision; refuse a lower one with STALE_REVISION.")
async def stale_revision(probe: Probe) -> None:
    """A lower revision than the last one taken is refused with STALE_REVISION."""
    session = probe.session
    session.revision += 1
    await session.configure(probe.wire, session.setup.settings)
    await refused(
        session.configure(probe.wire, session.setup.settings, session.revision - 1),
        PRECONDITION,
        "STALE_REVISION",
        what="Configure with a lower revision",
    )


@must("CFG-007", rule=RULE, fix="Configure may take away from what Describe said, never add.")
async def effective_contracts(probe: Probe) -> None:
    """What an instance offers is a subset of what Describe said."""
    described = {entry.kind: set(entry.capabilities) for entry in probe.described.contracts}
    require(probe.session.configured.contracts, "Configure answers no contract")
    for entry in probe.session.configured.contracts:
        more = set(entry.capabilities) - described.get(entry.kind, set())
        require(entry.kind in described, "Configure offers a contract Describe did not name")
        require(not more, f"Configure offers capabilities {sorted(more)} Describe did not name")


@must("CFG-008", rule=RULE, fix="Make a UUID when the store is made, and keep it in the store.")
async def store_id(probe: Probe) -> None:
    """The store id is a UUID."""
    found = probe.session.configured.store_id
    try:
        uuid.UUID(found)
    except ValueError:
        raise Violation(f"the store id is {found!r}") from None


@must(
    "CFG-009",
    rule="connector.proto ConfigureRequest.instance",
    fix="Refuse what is not 1 to 63 lower-case letters, digits and dashes: it becomes a path.",
)
async def instance_names(probe: Probe) -> None:
    """Configure refuses names that are none."""
    for name in ("", "../evil", "UPPER", "a" * 64, "a b"):
        wire = probe.wire.of(name)
        await refused(
            probe.session.configure(wire, probe.session.setup.settings),
            INVALID,
            what=f"Configure of an instance named {name[:20]!r}",
        )


@must(
    "CFG-010",
    rule="protocol.md §1.4, connector.proto: x-connector-instance selects the instance",
    fix="Look the instance up in the metadata of every call; never fall back to a default.",
)
async def instance_selection(probe: Probe) -> None:
    """Calls without an instance, or for an unknown one, are refused."""
    asked = operations.GetOperationRequest(stream=probe.ref, idempotency_key=probe.key())
    for metadata, what in (
        ((), "a call without x-connector-instance"),
        (((INSTANCE_HEADER, "nobody"),), "a call for an instance that is not configured"),
    ):
        found = await refused(
            probe.wire.call("OperationService.GetOperation", asked, metadata=metadata),
            (INVALID, PRECONDITION, NOT_FOUND),
            what=what,
        )
        require(found.reason != "UNKNOWN_KEY", f"{what} was answered")


@must(
    "CFG-011",
    rule="protocol.md §1.4: one process may serve several instances, Describe says so",
    fix="Give each instance a store of its own, or describe multi_instance=false.",
    needs=(needs.multi_instance,),
)
async def several_instances(probe: Probe) -> None:
    """A connector that serves several instances keeps a store for each."""
    session = probe.session
    assert session.second is not None
    second = await session.configure(session.second, session.setup.second_settings)
    require(second.store_id != session.configured.store_id, "two instances share one store id")


@must(
    "CFG-012",
    rule="protocol.md §1.4: one process may serve several instances, Describe says so",
    fix="Refuse a second instance, or describe multi_instance=true.",
    needs=(needs.single_instance,),
)
async def one_instance(probe: Probe) -> None:
    """A connector that serves one instance refuses another one."""
    session = probe.session
    await refused(
        session.configure(probe.wire.of(SECOND), session.setup.settings),
        (PRECONDITION, EXISTS),
        what="Configure of a second instance",
    )


@must(
    "CFG-013",
    rule="protocol.md §2: a refused connector is told",
    fix="Take NotifyRegistration for any instance, and log the reason.",
)
async def notify(probe: Probe) -> None:
    """NotifyRegistration is taken, for a known and an unknown instance, accepted or not."""
    for instance, accepted in ((probe.wire.instance, True), ("nobody", False)):
        request = connector.NotifyRegistrationRequest(
            instance=instance, accepted=accepted, reason="" if accepted else "only a test"
        )
        await probe.wire.call("ConnectorService.NotifyRegistration", request, metadata=())


@must(
    "CFG-014",
    rule=f"{RULE}: the same bytes change nothing",
    fix="Do not restart the instance when its settings did not change.",
    profile=Profile.FULL,
    needs=(needs.submits,),
)
async def streams_live_on(probe: Probe) -> None:
    """Configure with the same bytes disturbs no running stream."""
    source = await source_of(probe)
    async with source.open() as stream:
        session = probe.session
        await session.configure(probe.wire, session.setup.settings)
        if session.second is not None:
            await session.configure(session.second, session.setup.second_settings)
        markers = await source.emit()
        await stream.collect(lambda found: source.mine(found, markers) == markers)


@must(
    "CFG-015",
    rule=f"{RULE}: the store id never changes for one durable store",
    fix="Read the store id from the store; make one only when there is none.",
    profile=Profile.FULL,
    phase=Phase.TERMINATED,
    needs=(needs.restartable,),
)
async def store_id_stays(probe: Probe) -> AsyncGenerator[None, None]:
    """The store id and the description are the same after a restart."""
    before = probe.session.configured.store_id
    yield
    after = probe.session.configured.store_id
    require(after == before, f"the store id was {before} and is {after}")
    again = await probe.wire.call(
        "ConnectorService.Describe", connector.DescribeRequest(), metadata=()
    )
    require(again == probe.described, "Describe differs after a restart")
