"""What only the leader knows is asked of it by the other replicas, once, and never waited for in vain.

Method: two replicas' explain services on loopback, over namespaces that say who leads.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from photinus.api.v1 import explain_service_pb2 as pb
from photinus.api.v1 import explain_service_pb2_grpc as pb_grpc
from photinus_client import authorizing, basic
from photinus_core.access.gate import Gate
from photinus_core.access.settings import AccessSettings, AuthenticatorSettings, PasswordSettings
from photinus_core.events.explain import MessageExplanation
from photinus_core.model.errors import NotFound, Unavailable
from photinus_core.model.ids import Uuid, new_uuid
from photinus_core.ports.clock import SystemClock
from photinus_core.rpc.access import AccessInterceptor
from photinus_core.rpc.errors import ErrorInterceptor
from photinus_core.rpc.leader_calls import LeaderCalls
from photinus_core.rpc.services.explain import ExplainServicer

from tests.support.tokens import password_file


class Settings:
    name = "alpha"


@dataclass
class FakeNamespace:
    """A namespace as far as explaining goes; its answers tell which replica they are from."""

    replica: str
    leader: str = ""
    failure: Exception | None = None
    lost: bool = False
    calls: int = 0
    settings = Settings

    def patience(self, left_s: float | None) -> float:
        return 5.0 if left_s is None else left_s

    async def leader_elsewhere(self) -> str:
        if self.lost:
            raise Unavailable("FF19130", "no connection")
        return self.leader

    def explainer(self) -> "FakeNamespace":
        return self

    async def explain_message(self, message: Uuid) -> MessageExplanation:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        return MessageExplanation(message, detail=self.replica)


class Replica:
    """One replica's server."""

    def __init__(self, name: str, *interceptors: grpc.aio.ServerInterceptor) -> None:
        self.own = FakeNamespace(name)
        self.calls = LeaderCalls()
        self.server = grpc.aio.server(interceptors=[ErrorInterceptor(), *interceptors])
        pb_grpc.add_ExplainServiceServicer_to_server(
            ExplainServicer(self, self.calls),  # type: ignore[arg-type]  # a node as far as needed
            self.server,
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def readable_namespace(self, _: str) -> FakeNamespace:
        return self.own

    async def ask(self, authorization: str = "") -> str:
        interceptors = authorizing(authorization)
        async with grpc.aio.insecure_channel(self.address, interceptors=interceptors) as channel:
            stub = pb_grpc.ExplainServiceStub(channel)
            answer: pb.ExplainMessageResponse = await stub.ExplainMessage(
                pb.ExplainMessageRequest(id=new_uuid()), timeout=10
            )
            return answer.detail


@pytest.fixture
async def replicas() -> AsyncIterator[tuple[Replica, Replica]]:
    made = Replica("follower"), Replica("leader")
    for replica in made:
        await replica.server.start()
    made[0].own.leader = made[1].address
    yield made
    for replica in made:
        await replica.calls.aclose()
        await replica.server.stop(None)


async def test_a_follower_asks_the_leader(replicas: tuple[Replica, Replica]) -> None:
    follower, leader = replicas
    assert await follower.ask() == "leader"
    assert await leader.ask() == "leader"
    assert follower.own.calls == 0


async def test_a_call_is_passed_on_once(replicas: tuple[Replica, Replica]) -> None:
    follower, leader = replicas
    leader.own.leader = follower.address
    assert await follower.ask() == "leader"


async def test_the_leaders_error_is_the_answer(replicas: tuple[Replica, Replica]) -> None:
    follower, leader = replicas
    leader.own.failure = NotFound("FF10109")
    with pytest.raises(grpc.aio.AioRpcError, match="FF10109") as caught:
        await follower.ask()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as direct:
        await leader.ask()
    details = [dict(e.value.trailing_metadata() or ()) for e in (caught, direct)]
    assert details[0]["grpc-status-details-bin"] == details[1]["grpc-status-details-bin"]


async def test_without_a_leader_the_replica_answers_itself(
    replicas: tuple[Replica, Replica],
) -> None:
    follower, leader = replicas
    await leader.server.stop(None)
    assert await follower.ask() == "follower"
    follower.own.lost = True
    assert await follower.ask() == "follower"
    follower.own.lost, follower.own.leader = False, ""
    assert await follower.ask() == "follower"


async def test_the_leader_is_told_who_asks(tmp_path: Path) -> None:
    """Replicas do not take each other's word for a client."""
    (tmp_path / "users").write_text(password_file(alice="a"))
    users = AuthenticatorSettings("users", PasswordSettings(tmp_path / "users"))
    access = AccessSettings("alpha", (users,), {"alpha": ("users",)})
    gates = [Gate(access, SystemClock()) for _ in range(2)]
    follower, leader = (
        Replica(name, AccessInterceptor(gate))
        for name, gate in zip(("follower", "leader"), gates, strict=True)
    )
    for gate in gates:
        await gate.open()
    for replica in (follower, leader):
        await replica.server.start()
    follower.own.leader = leader.address
    assert await follower.ask(basic("alice", "a")) == "leader"
    with pytest.raises(grpc.aio.AioRpcError, match="FF00169"):
        await follower.ask()
    for replica in (follower, leader):
        await replica.calls.aclose()
        await replica.server.stop(None)
    for gate in gates:
        await gate.aclose()
