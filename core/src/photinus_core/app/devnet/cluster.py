"""What the replicas of a network's members share: a database server and an ensemble, ours or others'."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from photinus_core.app.devnet import postgres, zookeeper
from photinus_core.app.devnet.layout import FIRST_PORT, ClusterState, Layout, free_port
from photinus_core.app.devnet.processes import Processes, StartError, together

REPLICAS_MAX: Final = 8
POSTGRES_PORT: Final = FIRST_PORT + 432
ZOOKEEPER_PORT: Final = FIRST_PORT + 181
ID_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What a new network is asked to be; one that exists stays as it is.

    Attributes:
        replicas: Replicas of each member.
        postgres: URL of a PostgreSQL server; empty for none, or for our own.
        zookeeper: Hosts of an ensemble; likewise.
        own: Whether to start what is not given.
    """

    replicas: int = 1
    postgres: str = ""
    zookeeper: str = ""
    own: bool = False

    def check(self) -> None:
        """Refuses what does not go together, and looks whether all that is needed is installed.

        Raises:
            StartError: with what to do.
        """
        if not 1 <= self.replicas <= REPLICAS_MAX:
            message = f"a member has 1 to {REPLICAS_MAX} replicas"
            raise StartError(message)
        if self.own:
            if not self.postgres:
                postgres.find_programs()
            if not self.zookeeper:
                zookeeper.find_server()
            return
        if self.replicas > 1 and not (self.postgres and self.zookeeper):
            message = (
                "several replicas share a PostgreSQL and a ZooKeeper: give both with --postgres "
                "URL --zookeeper HOSTS, or have them started with --cluster"
            )
            raise StartError(message)
        if self.zookeeper and not self.postgres:
            message = "--zookeeper needs --postgres: replicas cannot share an SQLite file"
            raise StartError(message)

    def new_state(self, taken: set[int]) -> ClusterState | None:
        """What a new network is made of; None when its members keep SQLite files."""
        if not (self.own or self.postgres):
            return None
        postgres_port = 0 if self.postgres else free_port(POSTGRES_PORT, taken)
        zookeeper_port = 0
        if self.own and not self.zookeeper:
            zookeeper_port = free_port(ZOOKEEPER_PORT, taken)
        return ClusterState(
            id=secrets.token_hex(ID_BYTES),
            replicas=self.replicas,
            postgres=self.postgres or postgres.new_url(postgres_port),
            zookeeper=self.zookeeper or (f"127.0.0.1:{zookeeper_port}" if zookeeper_port else ""),
            postgres_port=postgres_port,
            zookeeper_port=zookeeper_port,
        )


async def start_servers(
    processes: Processes, layout: Layout, cluster: ClusterState, members: int
) -> None:
    """Starts the servers that are ours, and sees that every member has its database.

    Raises:
        StartError: a server is not installed, does not start, or does not let us.
    """
    starts = []
    if cluster.postgres_port:
        starts.append(postgres.start_postgres(processes, layout.postgres, cluster.postgres))
    if cluster.zookeeper_port:
        starts.append(
            zookeeper.start_zookeeper(processes, layout.zookeeper, cluster.zookeeper_port)
        )
    await together(*starts)
    await postgres.make_databases(cluster.postgres, cluster.id, members)


async def discard(cluster: ClusterState, members: int) -> None:
    """Removes a network that is thrown away from servers that are not ours.

    Raises:
        StartError: a server cannot be reached.
    """
    if not cluster.postgres_port:
        await postgres.drop_databases(cluster.postgres, cluster.id, members)
    if cluster.zookeeper and not cluster.zookeeper_port:
        await zookeeper.forget(cluster.zookeeper, cluster.id)
