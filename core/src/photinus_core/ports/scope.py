"""What every service of a namespace is built on."""

from __future__ import annotations

from dataclasses import dataclass

from photinus_core.model.ids import Namespace
from photinus_core.ports.clock import Clock
from photinus_core.ports.meter import UNMETERED, Meter
from photinus_core.ports.store import Store


@dataclass(frozen=True, slots=True)
class Scope:
    """One namespace, its database, its clock, and what counts for it.

    Attributes:
        namespace: Local name: the key of every row.
        network_name: Name on the wire.
    """

    store: Store
    clock: Clock
    namespace: Namespace
    network_name: str
    meter: Meter = UNMETERED
