"""Goal: `photinus up` says in one line what does not go together or is missing, before it starts anything.

Method: plans and the search for programs, with a machine on which nothing is installed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from photinus_core.app.cli import _cluster_plan, _parser
from photinus_core.app.config import load
from photinus_core.app.devnet import postgres, zookeeper
from photinus_core.app.devnet.cluster import ClusterPlan
from photinus_core.app.devnet.layout import ClusterState, Layout, NetworkState, new_members
from photinus_core.app.devnet.member import CONNECTORS, Surroundings, write_configs
from photinus_core.app.devnet.processes import Processes, Program, StartError, together
from photinus_core.app.operating import read_age

URL = "postgres://u:secret@db.example:5432/postgres"


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("JAVA_HOME", postgres.FOLDER_VARIABLE, zookeeper.FOLDER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    monkeypatch.setattr(postgres, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(zookeeper, "_LAUNCHER", tmp_path / "absent")
    monkeypatch.setattr(zookeeper, "_PLACES", (str(tmp_path / "debian"),))


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (ClusterPlan(replicas=2), "--cluster"),
        (ClusterPlan(replicas=2, postgres=URL), "--zookeeper"),
        (ClusterPlan(zookeeper="zk:2181"), "--postgres"),
        (ClusterPlan(replicas=0), "1 to 8 replicas"),
        (ClusterPlan(replicas=9, own=True), "1 to 8 replicas"),
    ],
)
def test_what_does_not_go_together_is_said(plan: ClusterPlan, text: str) -> None:
    with pytest.raises(StartError, match=text):
        plan.check()


@pytest.mark.usefixtures("bare_machine")
def test_what_is_missing_is_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(StartError, match="apt-get install postgresql") as failure:
        ClusterPlan(replicas=2, own=True).check()
    assert "\n" not in str(failure.value)
    with pytest.raises(StartError, match="default-jre-headless") as failure:
        ClusterPlan(replicas=2, postgres=URL, own=True).check()
    assert "\n" not in str(failure.value)
    java = tmp_path / "java"
    java.touch(mode=0o755)
    with pytest.raises(StartError, match="apt-get install --no-install-recommends zookeeper"):
        ClusterPlan(replicas=2, postgres=URL, own=True).check()
    (tmp_path / "zookeeper-3.9.4.jar").touch()
    monkeypatch.setenv(zookeeper.FOLDER_VARIABLE, str(tmp_path))
    command, _ = zookeeper.find_server()
    assert command[0] == str(java)
    assert f"{tmp_path}/zookeeper-3.9.4.jar:{tmp_path}/*" in command
    ClusterPlan(replicas=2, postgres=URL, own=True).check()


def test_servers_that_are_given_need_nothing_here() -> None:
    plan = ClusterPlan(replicas=3, postgres=URL, zookeeper="zk:2181")
    plan.check()
    taken: set[int] = set()
    state = plan.new_state(taken)
    assert state is not None
    assert (state.postgres, state.zookeeper, state.ports, taken) == (URL, "zk:2181", (), set())
    assert ClusterPlan().new_state(taken) is None


@pytest.mark.parametrize(
    ("arguments", "plan"),
    [
        ("", ClusterPlan()),
        ("--cluster", ClusterPlan(replicas=2, own=True)),
        ("--cluster --replicas 3", ClusterPlan(replicas=3, own=True)),
        ("--postgres U", ClusterPlan(replicas=1, postgres="U")),
        ("--postgres U --zookeeper Z", ClusterPlan(replicas=2, postgres="U", zookeeper="Z")),
    ],
)
def test_options_of_the_command(arguments: str, plan: ClusterPlan) -> None:
    assert _cluster_plan(_parser().parse_args(["up", *arguments.split()])) == plan


def test_replicas_have_configurations_that_differ_in_themselves_only(tmp_path: Path) -> None:
    (member,) = new_members(1, set(), replicas=2, connectors=len(CONNECTORS))
    cluster = ClusterState("ab12", 2, URL, "zk:2181")
    around = Surroundings(5545, "0x" + "ab" * 20, cluster)
    paths = write_configs(Layout(tmp_path), member, around)
    assert [p.stat().st_mode & 0o777 for p in paths] == [0o600, 0o600]
    first, second = (load(path, {}) for path in paths)
    assert (first.listen.address, second.listen.address) == member.grpc_addresses
    assert (first.cluster.replica, second.cluster.replica) == ("node_0-0", "node_0-1")
    assert first.cluster.ensemble == second.cluster.ensemble
    assert first.cluster.ensemble is not None
    assert first.cluster.ensemble.chroot == "/photinus/ab12/member0"
    assert first.plugins == second.plugins
    database = first.plugin("database0").postgres
    assert database is not None
    assert database.url == "postgres://u:secret@db.example:5432/photinus_ab12_member0"
    connector = first.plugin("blockchain0").connector
    assert connector is not None
    assert (connector.launch, connector.insecure) == ((), True)


def test_a_network_of_before_clusters_is_read(tmp_path: Path) -> None:
    (tmp_path / "network.json").write_text(
        '{"chain_port": 1, "contract": "0x", "members":'
        ' [{"index": 0, "http_port": 2, "grpc_port": 3, "dx_port": 4}]}'
    )
    state = Layout(tmp_path).load()
    assert state is not None
    assert state.cluster is None
    assert state.ports == (1, 2, 3, 4)


def test_passwords_are_kept_from_others(tmp_path: Path) -> None:
    place = Layout(tmp_path)
    place.save(NetworkState(1, "0x", (), ClusterState("ab12", 2, postgres.new_url(5432))))
    assert (tmp_path / "network.json").stat().st_mode & 0o777 == 0o600
    assert postgres.place(postgres.new_url(5432)) == "127.0.0.1:5432"


async def test_what_fails_first_ends_the_rest(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def failing() -> None:
        await together(_absent(Processes(tmp_path)))

    with pytest.raises(StartError, match="nothing cannot be started"):
        await together(slow(), failing())
    assert ended.is_set()


async def _absent(processes: Processes) -> None:
    await processes.run(Program("nothing", ["/absent/program"]))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 7_776_000), ("12h", 43_200), ("2w", 1_209_600)]
)
def test_ages_are_read(text: str, seconds: int) -> None:
    assert read_age(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1", "1.5d", "-1d", "1 d", "1y"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no age"):
        read_age(text)
