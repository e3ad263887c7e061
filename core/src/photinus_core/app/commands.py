"""What the commands of `photinus` do. They print for people; everything else logs."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
from photinus.api.v1 import (
    explain_service_pb2,
    explain_service_pb2_grpc,
    namespace_service_pb2,
    namespace_service_pb2_grpc,
    node_service_pb2,
    node_service_pb2_grpc,
)

from photinus_core.app.config import load
from photinus_core.app.devnet.cluster import ClusterPlan
from photinus_core.app.devnet.layout import SPARE_ADDRESSES, ClusterState, Layout
from photinus_core.app.devnet.network import Network, stop_network
from photinus_core.app.devnet.postgres import place
from photinus_core.app.reaching import Api
from photinus_core.app.scaffold import ScaffoldError, create_project
from photinus_core.app.showing import connector_line, connector_lines
from photinus_core.app.telling import CALL_S, complain, tell, why


async def up(
    directory: Path, members: int, plan: ClusterPlan, plugins: Path | None, *, fresh: bool
) -> int:
    """Runs a network until it is told to stop, or a part of it ends."""
    began = time.monotonic()
    async with Network(
        directory, members, fresh=fresh, say=lambda t: tell(f"· {t}"), plan=plan, plugins=plugins
    ) as network:
        tell()
        tell(f"The network is up after {time.monotonic() - began:.1f} s.")
        tell()
        for member in network.members:
            tell(f"  {member.org}")
            tell(f"    REST         {member.url}/api/v1")
            tell(f"    API explorer {member.url}/api")
            tell(f"    WebSocket    {member.ws_url}")
            tell(f"    gRPC         {', '.join(member.grpc_addresses)}")
            tell(f"    second key   {SPARE_ADDRESSES[member.index]}")
        if network.state is not None:
            tell(f"  chain          http://127.0.0.1:{network.state.chain_port}")
            _tell_servers(network.state.cluster)
        tell(f"  data and logs  {directory}")
        tell()
        tell("Ctrl-C ends it; `photinus up` goes on where it was.")
        ended = await network.first_to_end()
        complain(f"photinus: {ended.name} has ended; see {ended.log_path}")
    return 1


def _tell_servers(cluster: ClusterState | None) -> None:
    if cluster is not None:
        tell(f"  PostgreSQL     {place(cluster.postgres)}")
        if cluster.zookeeper:
            tell(f"  ZooKeeper      {cluster.zookeeper}")


def new_connector(name: str, contract: str, language: str, directory: Path) -> int:
    """Makes a project for a connector and says what to do next."""
    try:
        folder = create_project(name, contract, language, directory)
    except (ScaffoldError, OSError) as error:
        complain(f"photinus: {error}")
        return 1
    tell(f"{folder} is made; its README.md says how to run, test and change it.")
    return 0


async def down(directory: Path) -> int:
    """Ends the network of a folder."""
    if not await stop_network(directory, tell):
        tell("no network is up here")
    return 0


async def status(directory: Path) -> int:
    """Shows the network of a folder: its members, and how their connectors are."""
    known = Layout(directory).load()
    if known is None:
        complain(f"photinus: there is no network in {directory}")
        return 1
    down_count = 0
    for member in known.members:
        answered = None
        many = len(member.grpc_addresses) > 1
        if many:
            tell(f"{member.org}  {member.url}")
        for address in member.grpc_addresses:
            line, is_up = await _replica_line(address)
            tell(f"  {address}  {line}" if many else f"{member.org}  {member.url}  {line}")
            down_count += not is_up
            answered = address if is_up else answered
        if answered is not None:
            async with grpc.aio.insecure_channel(answered) as channel:
                await _show_connectors(node_service_pb2_grpc.NodeServiceStub(channel), "  ")
                await show_troubles(channel)
    return 1 if down_count else 0


async def show_troubles(channel: grpc.aio.Channel) -> None:
    """One line for each thing that a namespace lacks; nothing when all is well."""
    stub = namespace_service_pb2_grpc.NamespaceServiceStub(channel)
    listed = await stub.ListNamespaces(
        namespace_service_pb2.ListNamespacesRequest(include_initializing=True), timeout=CALL_S
    )
    for found in listed.items:
        if found.initializing:
            tell(f"  namespace {found.name} does not run: {found.initialization_error}")
            continue
        state = await stub.GetStatus(
            namespace_service_pb2.GetStatusRequest(namespace=found.name), timeout=CALL_S
        )
        for condition in state.conditions:
            tell(f"  namespace {found.name}: {condition.type}: {condition.message}")


async def _replica_line(address: str) -> tuple[str, bool]:
    """What a replica says of itself, and whether it is there."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = node_service_pb2_grpc.NodeServiceStub(channel)
        try:
            info = await stub.GetNodeInfo(node_service_pb2.GetNodeInfoRequest(), timeout=CALL_S)
        except grpc.aio.AioRpcError:
            return "down", False
    return f"up, version {info.version}, leads {', '.join(info.leading) or 'nothing'}", True


async def connectors(api: Api) -> int:
    """Shows the connectors of a node."""
    async with api.channel() as channel:
        try:
            await _show_connectors(node_service_pb2_grpc.NodeServiceStub(channel), "", in_full=True)
        except grpc.aio.AioRpcError as failure:
            complain(why(api, failure))
            return 1
    return 0


async def _show_connectors(
    stub: node_service_pb2_grpc.NodeServiceStub, indent: str, *, in_full: bool = False
) -> None:
    listed = await stub.ListConnectors(node_service_pb2.ListConnectorsRequest(), timeout=CALL_S)
    for found in listed.items:
        for line in connector_lines(found) if in_full else [connector_line(found)]:
            tell(f"{indent}{line}")


async def explain_message(api: Api, namespace: str, message_id: str) -> int:
    """Says what a message waits for."""
    async with api.channel() as channel:
        stub = explain_service_pb2_grpc.ExplainServiceStub(channel)
        try:
            found = await stub.ExplainMessage(
                explain_service_pb2.ExplainMessageRequest(namespace=namespace, id=message_id),
                timeout=CALL_S,
            )
        except grpc.aio.AioRpcError as failure:
            complain(why(api, failure))
            return 1
    tell(f"message    {found.id}")
    tell(f"state      {found.state}")
    if found.batch:
        tell(f"batch      {found.batch}")
    if found.reason:
        since = found.since.ToJsonString() if found.HasField("since") else "unknown"
        tell(f"waits for  {found.reason} (since {since})")
    if found.detail:
        tell(f"           {found.detail}")
    for pin in found.pins:
        reason = f": {pin.detail or pin.reason}" if pin.reason else ""
        tell(f"pin        {pin.hash[:16]}… at {pin.protocol_id} {pin.state}{reason}")
    for operation in found.operations:
        tell(f"operation  {operation}")
    return 0


def check_config(path: Path) -> int:
    """Checks a configuration; a `ConfigError` is printed by the caller."""
    settings = load(path)
    for warning in settings.warnings:
        complain(f"warning: {warning}")
    names = ", ".join(n.name for n in settings.namespaces)
    tell(f"{path}: {len(settings.namespaces)} namespaces ({names}), no errors")
    return 0


async def demo(directory: Path | None) -> int:
    """Runs the demonstration on a network of its own."""
    from photinus_core.app.demo import DemoError, run_demo  # noqa: PLC0415 - only this command needs it

    try:
        return await run_demo(directory, tell)
    except DemoError as failure:
        complain(f"photinus: the demo failed: {failure}; with --dir FOLDER it keeps its logs")
        return 1
