"""When a check applies: conditions on what a connector claims and what an author gave."""

from __future__ import annotations

from photinus.connector.v1 import connector_pb2 as connector

from photinus_sanity.catalogue import Need
from photinus_sanity.session import Session
from photinus_sanity.targets import Launched


def contract(kind: connector.ContractKind.ValueType) -> Need:
    """The connector fulfils a contract."""
    name = connector.ContractKind.Name(kind).removeprefix("CONTRACT_KIND_")

    def need(session: Session) -> str:
        return "" if session.claimed(kind) is not None else f"contract {name} is not claimed"

    return need


def capability(value: connector.Capability.ValueType) -> Need:
    """The connector claims a capability, for whatever contract."""
    name = connector.Capability.Name(value).removeprefix("CAPABILITY_")

    def need(session: Session) -> str:
        return "" if session.claims(value) else f"capability {name} is not claimed"

    return need


def capability_of(
    kind: connector.ContractKind.ValueType, value: connector.Capability.ValueType
) -> Need:
    """The connector claims a capability for this contract."""
    kind_name = connector.ContractKind.Name(kind).removeprefix("CONTRACT_KIND_")
    name = connector.Capability.Name(value).removeprefix("CAPABILITY_")

    def need(session: Session) -> str:
        found = session.claimed(kind)
        claimed = found is not None and value in found.capabilities
        return "" if claimed else f"capability {name} of {kind_name} is not claimed"

    return need


def fixture(path: str) -> Need:
    """The author's fixture has a part."""

    def need(session: Session) -> str:
        return "" if session.setup.get(path) is not None else f"the fixture has no {path}"

    return need


def restartable(session: Session) -> str:
    """The suite may end and start the connector."""
    return "" if session.target.restartable else "the connector was attached, not launched"


def process(session: Session) -> str:
    """The connector is a process the suite started."""
    launched = isinstance(session.target, Launched)
    return "" if launched else "the connector was attached, not launched"


def second(session: Session) -> str:
    """There is another member."""
    return "" if session.second is not None else "there is no second instance"


def multi_instance(session: Session) -> str:
    """One process serves several instances."""
    return "" if session.described.multi_instance else "it serves one instance"


def single_instance(session: Session) -> str:
    """One process serves one instance."""
    return "it serves several instances" if session.described.multi_instance else ""


def secrets(session: Session) -> str:
    """The author's settings hold a secret to look for."""
    return "" if session.ear.secrets else "the settings hold no secret (writeOnly in the schema)"


def submits(session: Session) -> str:
    """Some contract begins work: submissions with an end that arrives on the stream."""
    kinds = (
        (connector.CONTRACT_KIND_BLOCKCHAIN, "blockchain.multiparty"),
        (connector.CONTRACT_KIND_TOKENS, "tokens"),
        (connector.CONTRACT_KIND_DATA_EXCHANGE, ""),
    )
    for kind, part in kinds:
        claimed = session.claimed(kind)
        if claimed is None or connector.CAPABILITY_EVENTS not in claimed.capabilities:
            continue
        if part and session.setup.get(part) is None:
            return f"the fixture has no {part}"
        if kind == connector.CONTRACT_KIND_DATA_EXCHANGE and session.second is None:
            return "there is no second instance to send to"
        return ""
    return "no contract that begins work claims EVENTS"


def ledger(session: Session) -> str:
    """Events come from a ledger, so that listeners have checkpoints."""
    if why := submits(session):
        return why
    kinds = (connector.CONTRACT_KIND_BLOCKCHAIN, connector.CONTRACT_KIND_TOKENS)
    return "" if any(session.claimed(kind) for kind in kinds) else "its events have no checkpoints"


def mutates(session: Session) -> str:
    """Some mutating call can be made."""
    if session.claimed(connector.CONTRACT_KIND_SHARED_STORAGE) is not None:
        return ""
    return submits(session)
