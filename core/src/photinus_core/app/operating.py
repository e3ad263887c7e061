"""The commands for operators of a cluster: who leads what, taking a replica out, deleting what is old."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from google.protobuf import timestamp_pb2
from photinus.api.v1 import node_pb2, node_service_pb2_grpc
from photinus.api.v1 import node_service_pb2 as pb

from photinus_core.app.config import load
from photinus_core.app.reaching import Api
from photinus_core.app.telling import CALL_S, complain, tell, why
from photinus_core.model.errors import Rejected, Unavailable

REPLICA_COLUMNS: Final = ("REPLICA", "STATE", "ADDRESS", "VERSION", "SINCE")
NAMESPACE_COLUMNS: Final = (
    *("NAMESPACE", "LEADER", "EPOCH", "STANDING BY"),
    *("UNDECIDED PINS", "UNSENT MESSAGES", "EVENTS BEHIND"),
)
_AGE: Final = re.compile(r"(\d+)([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


async def cluster(api: Api) -> int:
    """Shows the replicas, who leads which namespace, and how much waits."""
    async with api.channel() as channel:
        stub = node_service_pb2_grpc.NodeServiceStub(channel)
        try:
            found = await stub.GetCluster(pb.GetClusterRequest(), timeout=CALL_S)
        except grpc.aio.AioRpcError as failure:
            complain(why(api, failure))
            return 1
    _table(REPLICA_COLUMNS, [_replica_row(replica) for replica in found.replicas])
    tell()
    _table(NAMESPACE_COLUMNS, [_namespace_row(namespace) for namespace in found.namespaces])
    for problem in found.problems:
        complain(f"problem: {problem}")
    return 1 if found.problems else 0


def _replica_row(replica: node_pb2.Replica) -> tuple[str, ...]:
    name = f"{replica.id} *" if replica.self else replica.id
    since = replica.since.ToJsonString()[:19] + "Z" if replica.HasField("since") else "-"
    return (name, replica.state, replica.address, replica.version, since)


def _namespace_row(namespace: node_pb2.NamespaceLeadership) -> tuple[str, ...]:
    return (
        namespace.namespace,
        namespace.leader or "nobody",
        str(namespace.epoch),
        ", ".join(namespace.standby) or "nobody",
        str(namespace.undecided_pins),
        str(namespace.unsent_messages),
        str(namespace.events_behind),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        tell("  ".join(cells).rstrip())


async def drain(api: Api, timeout_s: float) -> int:
    """Has a replica hand over what it leads and send its clients elsewhere."""
    began = time.monotonic()
    async with api.channel() as channel:
        stub = node_service_pb2_grpc.NodeServiceStub(channel)
        try:
            done = await stub.Drain(pb.DrainRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as failure:
            if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                complain(f"photinus: not drained after {timeout_s:g} s; it goes on draining")
            else:
                complain(why(api, failure))
            return 1
    released = ", ".join(done.released) or "nothing"
    tell(
        f"drained in {time.monotonic() - began:.2f} s: gave up {released}, "
        f"ended {done.streams_ended} event streams; it can be stopped now"
    )
    return 0


async def rebind_ensemble(config: Path, directory: Path) -> int:
    """Makes the database and a rebuilt ensemble belong together; all replicas must be down."""
    # Only this command needs a node's parts.
    from photinus_core.app.assembly import open_stores  # noqa: PLC0415 - as said
    from photinus_core.app.electing import ensembles  # noqa: PLC0415 - as said
    from photinus_core.cluster import EnsembleSession, rebind  # noqa: PLC0415 - as said

    settings = load(config)
    async with AsyncExitStack() as stack:
        stores = await open_stores(settings, directory, stack)
        for name, ensemble in ensembles(settings, directory, stores).items():
            if ensemble is None:
                raise Rejected("FF19305", "cluster.zookeeper", "is missing: nothing to bind to")
            session = await stack.enter_async_context(EnsembleSession(ensemble))
            session.start()
            try:
                async with asyncio.timeout(CALL_S):
                    await session.answered()
                    await rebind(session, stores[name])
            except TimeoutError as failure:
                cause = session.failure or "no answer"
                raise Unavailable("FF19150", ensemble.hosts, cause) from failure
            tell(f"{name}: bound to {ensemble.hosts}{ensemble.chroot}")
    return 0


@dataclass(frozen=True, slots=True)
class Pruning:
    """What to delete.

    Attributes:
        namespace: The namespace; the default one when empty.
        collections: Which ones.
        older_s: Age of what goes, in seconds.
        dry_run: Only count.
    """

    namespace: str
    collections: tuple[str, ...]
    older_s: int
    dry_run: bool


async def prune(api: Api, pruning: Pruning) -> int:
    """Deletes what is old and no longer needed, window by window."""
    before = timestamp_pb2.Timestamp()
    before.FromNanoseconds(time.time_ns() - pruning.older_s * 1_000_000_000)
    word = "would delete" if pruning.dry_run else "deleted"
    async with api.channel() as channel:
        stub = node_service_pb2_grpc.NodeServiceStub(channel)
        for collection in pruning.collections:
            gone = kept = 0
            request = pb.PruneCollectionRequest(
                namespace=pruning.namespace,
                collection=collection,
                before=before,
                dry_run=pruning.dry_run,
            )
            try:
                while True:
                    done = await stub.PruneCollection(request, timeout=CALL_S)
                    gone, kept, request.after = gone + done.pruned, kept + done.kept, done.next
                    if not done.more:
                        break
            except grpc.aio.AioRpcError as failure:
                complain(why(api, failure))
                return 1
            tell(f"{collection:17} {word} {gone}, kept {kept} old ones that are needed")
    return 0


def read_age(text: str) -> int:
    """Seconds of `90d`, `12h`, `2w`.

    Raises:
        ValueError: it is none.
    """
    found = _AGE.fullmatch(text)
    if found is None:
        message = f"'{text}' is no age such as 90d, 12h or 2w"
        raise ValueError(message)
    return int(found[1]) * _UNITS[found[2]]
