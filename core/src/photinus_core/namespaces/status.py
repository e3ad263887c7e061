"""How a namespace is: plain values for the status calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from photinus_core.model.ids import Nanoseconds, Uuid
from photinus_core.model.ledger import NetworkContract
from photinus_core.model.network import Identity, Verifier


class RegistrationState(StrEnum):
    """How far a registration is; FireFly's words."""

    UNREGISTERED = "unregistered"
    REGISTERING = "registering"
    REGISTERED = "registered"
    UNKNOWN = "unknown"


class ListenerState(StrEnum):
    """How far the listener of the active contract is; FireFly's words."""

    SYNCING = "syncing"
    SYNCED = "synced"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Registration:
    """How far the registration of the own organisation or node is."""

    state: RegistrationState
    pending_message: Uuid | None = None
    """The claim that waits to be decided."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something an operator should know.

    Attributes:
        type: A short name: `configuration`, `connector`, `election`, `error`, `halted` or `listener`.
        message: One sentence.
        since: Since when.
    """

    type: str
    message: str
    since: Nanoseconds


@dataclass(frozen=True, slots=True)
class MultipartyState:
    """The multiparty side of a namespace."""

    org: Identity | None
    org_verifiers: tuple[Verifier, ...]
    node: Identity | None
    org_registration: Registration
    node_registration: Registration
    active: NetworkContract | None
    listener: ListenerState
    terminated: tuple[NetworkContract, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """A namespace as it is.

    Attributes:
        created: When it first started.
        error: Why it has not started, or why it stopped; empty while it runs.
        multiparty: None in a gateway namespace.
    """

    created: Nanoseconds
    error: str
    multiparty: MultipartyState | None
    conditions: tuple[Condition, ...] = field(default=())
