"""Goal: `photinus up` on servers that are somebody else's uses them, and leaves nothing there it threw away.

Method: a PostgreSQL and a ZooKeeper of the test's own, given to `up --postgres --zookeeper`; one member
with two replicas; then a fresh start over it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
from kazoo.client import KazooClient
from photinus_core.app.devnet.layout import Layout

from tests.support.commands import photinus
from tests.support.network import network_up
from tests.support.postgres import PostgresServer
from tests.support.zookeeper import ZooKeeperServer


async def databases(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT datname FROM pg_database")
        return {row[0] for row in rows if row[0].startswith("photinus_")}
    finally:
        await connection.close()


def chroots(hosts: str) -> set[str]:
    client = KazooClient(hosts)
    client.start(timeout=10)
    try:
        return set(client.get_children("/photinus"))
    finally:
        client.stop()
        client.close()


def test_servers_of_others_are_used_and_left_clean(tmp_path: Path) -> None:
    folder, hidden = tmp_path / "net", "secret"
    with ZooKeeperServer.started(tmp_path / "zookeeper") as zookeeper:
        with PostgresServer() as postgres:
            url = postgres.url("postgres")
            given = ("--replicas", "2", "--postgres", url, "--zookeeper", zookeeper.hosts)
            with network_up(folder, 1, *given) as network:
                (member,) = network.members
                sent = member.post(
                    "/messages/broadcast?confirm=true", {"data": [{"value": 1}]}, status=200
                )
                assert sent["state"] == "confirmed"
                assert len(member.get("/cluster")["replicas"]) == 2
                state = Layout(folder).load()
                assert state is not None
                assert state.cluster is not None
                first = state.cluster.id
                assert asyncio.run(databases(url)) == {f"photinus_{first}_member0"}
                assert chroots(zookeeper.hosts) == {first}
                output = folder.with_name("net.up.log").read_text()
                assert hidden not in output
            config = Layout(folder).member(0) / "photinus.core.yaml"
            bound = photinus("cluster", "rebind", "--config", str(config))
            assert bound.returncode == 0, bound.stderr
            assert f"database0: bound to {zookeeper.hosts}/photinus/{first}/member0" in bound.stdout
            with network_up(folder, 1, *given, "--fresh") as network:
                assert network.members[0].get("/cluster")["replicas"]
                (database,) = asyncio.run(databases(url))
                assert database != f"photinus_{first}_member0"
                assert len(chroots(zookeeper.hosts)) == 1
        gone = photinus("up", "--fresh", "--dir", str(folder), *given)
        assert gone.returncode == 1
        assert "cannot be dropped" in gone.stderr
        assert hidden not in gone.stderr
