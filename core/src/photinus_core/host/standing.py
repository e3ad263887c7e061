"""How a connector stands, in the words an operator reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from photinus.connector.v1 import connector_pb2 as connector

from photinus_core.sequencing.connector_life import ConnectorLife, LifeState

DISCOVERED: Final = "discovered"
STARTING: Final = "starting"
UNREACHABLE: Final = "unreachable"
STOPPING: Final = "stopping"
QUIET: Final = frozenset({"ready", STARTING, STOPPING})
"""States that are no reason to look."""

SERVING: Final = frozenset({connector.RUNTIME_STATE_OK, connector.RUNTIME_STATE_UNSPECIFIED})


def standing(life: ConnectorLife, *, was_ready: bool, stopping: bool) -> str:
    """The state of a connector."""
    match life.state:
        case LifeState.READY | LifeState.DEGRADED | LifeState.FAILED:
            return life.state.value
        case LifeState.DRAINING:
            return STOPPING
        case LifeState.GONE:
            return STOPPING if stopping else life.state.value
        case _ if life.has_failed:
            # Tried again after its cool-down; until that works, nothing has changed.
            return LifeState.FAILED.value
        case _:
            return UNREACHABLE if was_ready or life.last_error else STARTING


def capability_names(capabilities: Iterable[connector.Capability.ValueType]) -> tuple[str, ...]:
    """Capabilities we know, sorted."""
    known = connector.Capability.values()
    return tuple(
        sorted(
            connector.Capability.Name(value).removeprefix("CAPABILITY_").lower()
            for value in set(capabilities)
            if value in known
        )
    )


def runtime_state(status: connector.WatchStatusResponse) -> tuple[bool, str]:
    """Whether it serves, and why not; a state we do not know is none in which it serves."""
    serving = status.state in SERVING
    if status.state in connector.RuntimeState.values():
        name = connector.RuntimeState.Name(status.state).removeprefix("RUNTIME_STATE_").lower()
    else:
        name = f"state {status.state}, which this core does not know"
    return serving, status.reason or f"it reports {name}"
