"""The replicas of one member of a running cluster: asked over gRPC, found as processes, killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final, cast

import grpc
import psutil
from photinus.api.v1 import (
    message_service_pb2_grpc,
    namespace_service_pb2_grpc,
    node_service_pb2_grpc,
)
from photinus.api.v1 import namespace_service_pb2 as namespaces
from photinus.api.v1 import node_service_pb2 as nodes

from tests.support.network import Member, RunningNetwork
from tests.support.rest import wait_until

CALL_S: Final = 60.0
SERVES_S: Final = 60.0


class Replica:
    """One replica.

    Attributes:
        name: What it is called in the cluster.
        address: Where it serves gRPC.
        member: Whose replica it is.
    """

    def __init__(self, network: RunningNetwork, member: Member, number: int) -> None:
        self.name = f"{member.node}-{number}"
        self.address = member.grpc_addresses[number]
        self.member = member
        self._network = network
        self._config = f"photinus.core.{number}.yaml" if number else "photinus.core.yaml"
        self._folder = str(member.folder)
        # The generated types know the channels of asyncio only.
        self._channel = cast("Any", grpc.insecure_channel(self.address))
        self.nodes: Any = node_service_pb2_grpc.NodeServiceStub(self._channel)
        self.namespaces: Any = namespace_service_pb2_grpc.NamespaceServiceStub(self._channel)
        self.messages: Any = message_service_pb2_grpc.MessageServiceStub(self._channel)

    @property
    def process(self) -> psutil.Process:
        """Its process as it is now."""
        for process in psutil.Process(self._network.pid).children(recursive=True):
            command = process.cmdline()
            if f"{self._folder}/{self._config}" in command:
                return process
        raise AssertionError(f"{self.name} does not run")

    def signal(self, number: signal.Signals) -> int:
        """Sends a signal; gives the process id."""
        pid = self.process.pid
        os.kill(pid, number)
        return pid

    @property
    def leads(self) -> bool:
        """Whether it leads the default namespace; False when it does not answer."""
        try:
            return bool(self.nodes.GetNodeInfo(nodes.GetNodeInfoRequest(), timeout=2).leading)
        except grpc.RpcError:
            return False

    def sockets(self) -> list[Any]:
        """Event streams it holds."""
        answer = self.nodes.GetWebSockets(nodes.GetWebSocketsRequest(), timeout=CALL_S)
        return list(answer.connections)

    def cluster(self) -> nodes.GetClusterResponse:
        """What it says of the cluster."""
        answer: nodes.GetClusterResponse = self.nodes.GetCluster(
            nodes.GetClusterRequest(), timeout=CALL_S
        )
        return answer

    def restarted(self, end: Callable[[], int]) -> None:
        """Ends it, and waits until another process serves its namespace again, in the cluster."""
        former = end()

        def is_back() -> bool:
            try:
                found = {r.id: r.state for r in self.cluster().replicas}
                said = self.namespaces.GetStatus(namespaces.GetStatusRequest(), timeout=CALL_S)
            except grpc.RpcError:
                return False
            started = not said.namespace.initializing
            return started and self.process.pid != former and found.get(self.name) == "serving"

        def looked() -> bool:
            try:
                return is_back()
            except (AssertionError, psutil.Error):
                return False

        wait_until(looked, SERVES_S, lambda: f"{self.name} is not back")

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()


def leader_of(replicas: list[Replica]) -> Replica:
    """The replica that leads; waits until one does."""
    found: list[Replica] = []

    def look() -> bool:
        found[:] = [replica for replica in replicas if replica.leads]
        return len(found) == 1

    wait_until(look, explain=lambda: f"leaders: {[r.name for r in found]}")
    return found[0]
