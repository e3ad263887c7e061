"""What a run is made of: members, replicas, database, elector; and where faults can hit it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CONNECTORS: Final = {
    "ethereum": "photinus-ethereum",
    "dx": "photinus-dx",
    "ipfs": "photinus-ipfs",
}
"""The connectors of a member, with their programs."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The shape of a network.

    Attributes:
        replicas: Cores of each member. More than one need PostgreSQL and ZooKeeper.
        postgres: PostgreSQL instead of SQLite.
        zookeeper: ZooKeeper instead of the local elector.
    """

    members: int = 2
    replicas: int = 1
    postgres: bool = False
    zookeeper: bool = False

    def __post_init__(self) -> None:
        if self.replicas > 1 and not (self.postgres and self.zookeeper):
            raise ValueError("several replicas share a PostgreSQL and a ZooKeeper")

    def __str__(self) -> str:
        database = "PostgreSQL" if self.postgres else "SQLite"
        elector = "ZooKeeper" if self.zookeeper else "the local elector"
        return (
            f"{self.members} members, {self.replicas} replica(s) each, on {database} and {elector}"
        )

    @property
    def launches(self) -> bool:
        """Whether a core starts its connectors itself; replicas share connectors that run on their own."""
        return not self.zookeeper

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Member and replica of every core."""
        return tuple((m, r) for m in range(self.members) for r in range(self.replicas))

    @property
    def connectors(self) -> tuple[str, ...]:
        """Names of all connectors: `connector/0/dx`."""
        return tuple(f"connector/{m}/{name}" for m in range(self.members) for name in CONNECTORS)

    @property
    def gateways(self) -> tuple[str, ...]:
        """Names of all gateways: one beside each core."""
        return tuple(f"gateway/{m}/{r}" for m, r in self.places)

    @property
    def links(self) -> tuple[str, ...]:
        """Names of all connections that pass a fault proxy."""
        found = [f"{kind}/{m}" for m in range(self.members) for kind in ("chain", "dx")]
        kinds = ["client-core", "client-gateway", "gateway-core"]
        if self.postgres:
            kinds.append("database")
        if self.zookeeper:
            kinds += ["zookeeper", "core-core", *(f"core-{name}" for name in CONNECTORS)]
        found += [f"{kind}/{m}/{r}" for m, r in self.places for kind in kinds]
        return tuple(found)
