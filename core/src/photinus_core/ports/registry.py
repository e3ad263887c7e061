"""What the rest of the core may ask of the plugin host as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from photinus_core.ports.connectors import ConnectorInfo


class ConnectorRegistry(Protocol):
    """All connectors of the node."""

    def list_connectors(self) -> Sequence[ConnectorInfo]:
        """How every configured connector is; those that are away too."""
        ...
