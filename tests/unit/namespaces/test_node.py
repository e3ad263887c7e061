"""Goal: a node finds its namespaces, and says which connectors each of them misses.

Method: namespaces and connectors that are nothing but what a node looks at.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from photinus_core.model.errors import NotFound, NotReady
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.namespaces.node import Node, NodeInfo
from photinus_core.namespaces.settings import NamespaceSettings, PluginRef
from photinus_core.namespaces.status import Condition

from tests.support.waiting import until


def runtime(name: str, exchange: str, *, started: bool = True, readable: bool = True) -> Any:
    settings = NamespaceSettings(Namespace(name), data_exchange=PluginRef(exchange, "ffdx"))
    return SimpleNamespace(settings=settings, is_started=started, is_readable=readable)


def connector(name: str, state: str, error: str = "") -> Any:
    return SimpleNamespace(instance=name, state=state, last_error=error, since=Nanoseconds(5))


RUNTIMES = (
    runtime("b", "dx0"),
    runtime("a", "dx1"),
    runtime("late", "dx1", started=False, readable=False),
    runtime("known", "dx2", started=False),
)
CONNECTORS = (connector("dx1", "unreachable", "nobody listens"), connector("dx0", "ready"))


@pytest.fixture
def node() -> Node:
    registry: Any = SimpleNamespace(list_connectors=lambda: CONNECTORS)
    info = NodeInfo("1", "cluster", "replica", Nanoseconds(0))
    return Node(info, RUNTIMES, Namespace("a"), registry, [])


def test_namespaces_are_found_by_name(node: Node) -> None:
    assert node.namespace("b") is RUNTIMES[0]
    assert node.namespace("") is RUNTIMES[1], "the default one"
    assert [each.settings.name for each in node.namespaces()] == ["a", "b", "known", "late"]
    with pytest.raises(NotFound, match="FF10436: Unknown namespace 'nosuch'"):
        node.namespace("nosuch")
    with pytest.raises(NotReady, match="FF10441: Namespace 'late' is initializing"):
        node.namespace("late")


def test_a_namespace_that_has_run_before_is_read_while_it_starts(node: Node) -> None:
    with pytest.raises(NotReady, match="FF10441: Namespace 'known' is initializing"):
        node.namespace("known")
    assert node.readable_namespace("known") is RUNTIMES[3]
    assert node.readable_namespace("") is RUNTIMES[1], "the default one"
    with pytest.raises(NotReady, match="FF10441: Namespace 'late' is initializing"):
        node.readable_namespace("late")
    with pytest.raises(NotFound, match="FF10436: Unknown namespace 'nosuch'"):
        node.readable_namespace("nosuch")


def test_a_connector_that_is_away_is_missed_by_its_users_only(node: Node) -> None:
    assert node.users_of("dx1") == ["a", "late"]
    assert node.connector_troubles(RUNTIMES[0]) == []
    (condition,) = node.connector_troubles(RUNTIMES[1])
    assert (condition.type, condition.since) == ("connector", 5)
    assert condition.message == "dx1 is unreachable: nobody listens"


def test_connectors_are_listed_by_name(node: Node) -> None:
    assert [each.instance for each in node.connectors()] == ["dx0", "dx1"]


class Running:
    """A namespace that runs until it is cancelled."""

    def __init__(self, name: str) -> None:
        self.settings = NamespaceSettings(Namespace(name))
        self.is_started = self.is_readable = self.is_stopped = False
        self.runs, self.closed = 0, False

    async def run(self) -> None:
        self.runs += 1
        self.is_started = self.is_readable = True
        try:
            await asyncio.Event().wait()
        finally:
            self.is_started = self.is_readable = False

    async def aclose(self) -> None:
        self.closed = True


async def test_namespaces_come_and_go_while_the_node_runs() -> None:
    first, second, another = Running("a"), Running("b"), Running("b")
    third: Any = Running("c")
    registry: Any = SimpleNamespace(list_connectors=lambda: ())
    info = NodeInfo("1", "cluster", "replica", Nanoseconds(0))
    runtimes: Any = [first, second]
    node = Node(info, runtimes, Namespace("a"), registry, [])
    running = asyncio.create_task(node.run())
    await until(lambda: first.is_started and second.is_started)
    await node.stop(Namespace("b"))
    assert second.is_stopped
    assert second.closed
    with pytest.raises(NotReady):
        node.namespace("b")
    node.add(cast("Any", another))
    node.add(third)
    await until(lambda: another.is_started and third.is_started)
    assert cast("Any", node.namespace("b")) is another
    node.set_default(Namespace("c"))
    await node.stop(Namespace("a"))
    node.remove(Namespace("a"))
    with pytest.raises(NotFound):
        node.namespace("a")
    assert cast("Any", node.namespace("")) is third
    assert (first.runs, third.runs, third.closed) == (1, 1, False)
    running.cancel()
    await asyncio.wait([running])
    assert third.closed


def test_what_is_wrong_with_the_configuration_is_everybodys_trouble(node: Node) -> None:
    assert node.troubles(RUNTIMES[0]) == []
    node.configuration = Condition("configuration", "line 3: no", Nanoseconds(7))
    assert node.troubles(RUNTIMES[0]) == [node.configuration]
    assert [c.type for c in node.troubles(RUNTIMES[1])] == ["connector", "configuration"]
