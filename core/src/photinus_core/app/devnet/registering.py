"""Registers organisations and nodes of a new network, through the public API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import grpc
from photinus.api.v1 import (
    namespace_service_pb2,
    namespace_service_pb2_grpc,
    network_service_pb2,
    network_service_pb2_grpc,
    node_service_pb2,
    node_service_pb2_grpc,
)

from photinus_core.app.devnet.layout import MemberState
from photinus_core.app.devnet.processes import StartError

STARTED_S: Final = 60.0
CONFIRM_S: Final = 60.0
SEEN_S: Final = 60.0
POLL_S: Final = 0.02


async def register_members(members: Sequence[MemberState], say: Callable[[str], None]) -> None:
    """Registers whoever is not registered, and waits until all replicas serve and know each other.

    Raises:
        StartError: a member does not start, or a registration is not confirmed.
    """
    channels = [grpc.aio.insecure_channel(m.grpc_address) for m in members]
    try:
        for member, channel in zip(members, channels, strict=True):
            status = await _started(member, channel)
            network = network_service_pb2_grpc.NetworkServiceStub(channel)
            if not status.org.registered:
                say(f"registering {member.org}")
                await network.RegisterSelfOrganization(
                    network_service_pb2.RegisterSelfOrganizationRequest(confirm=True),
                    timeout=CONFIRM_S,
                )
            if not status.node.registered:
                say(f"registering {member.node}")
                await network.RegisterSelfNode(
                    network_service_pb2.RegisterSelfNodeRequest(confirm=True), timeout=CONFIRM_S
                )
        for member, channel in zip(members, channels, strict=True):
            await _knows_all(member, channel, len(members))
            await _is_complete(member, channel)
            for address in member.grpc_addresses[1:]:
                async with grpc.aio.insecure_channel(address) as replica:
                    await _started(member, replica)
    except grpc.aio.AioRpcError as failure:
        message = f"registration failed: {failure.details()}"
        raise StartError(message) from failure
    finally:
        for channel in channels:
            await channel.close()


async def _started(
    member: MemberState, channel: grpc.aio.Channel
) -> namespace_service_pb2.GetStatusResponse:
    stub = namespace_service_pb2_grpc.NamespaceServiceStub(channel)
    error = ""
    try:
        async with asyncio.timeout(STARTED_S):
            while True:
                try:
                    status: namespace_service_pb2.GetStatusResponse = await stub.GetStatus(
                        namespace_service_pb2.GetStatusRequest(), timeout=STARTED_S
                    )
                except grpc.aio.AioRpcError as failure:
                    error = failure.details() or ""
                else:
                    if not status.namespace.initializing:
                        return status
                    error = status.namespace.initialization_error
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        causes = await _causes(channel)
        message = f"{member.org} does not start: {causes or error}"
        raise StartError(message) from None


async def _knows_all(member: MemberState, channel: grpc.aio.Channel, count: int) -> None:
    stub = network_service_pb2_grpc.NetworkServiceStub(channel)
    names: list[str] = []
    try:
        async with asyncio.timeout(SEEN_S):
            while True:
                listed = await stub.ListNodes(network_service_pb2.ListNodesRequest())
                names = [node.name for node in listed.items]
                if len(names) >= count:
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        causes = await _causes(channel)
        message = f"{member.org} does not see all {count} nodes but {', '.join(names) or 'none'}"
        raise StartError(f"{message}: {causes}" if causes else message) from None


async def _is_complete(member: MemberState, channel: grpc.aio.Channel) -> None:
    """Waits until all replicas of a member know each other."""
    stub = node_service_pb2_grpc.NodeServiceStub(channel)
    count, found = len(member.grpc_addresses), node_service_pb2.GetClusterResponse()
    try:
        async with asyncio.timeout(SEEN_S):
            while True:
                found = await stub.GetCluster(node_service_pb2.GetClusterRequest())
                if len(found.replicas) >= count:
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        seen = ", ".join(replica.id for replica in found.replicas) or "none"
        message = f"{member.org} has {count} replicas, but only {seen} came together"
        raise StartError(": ".join((message, *found.problems))) from None


async def _causes(channel: grpc.aio.Channel) -> str:
    """Why the member's namespaces do not run, as it says itself; empty if they do."""
    listed = await namespace_service_pb2_grpc.NamespaceServiceStub(channel).ListNamespaces(
        namespace_service_pb2.ListNamespacesRequest(include_initializing=True)
    )
    return "; ".join(n.initialization_error for n in listed.items if n.initialization_error)
