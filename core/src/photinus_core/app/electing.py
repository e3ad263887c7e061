"""Which elector a node gets, and what it says of itself to the other replicas."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from photinus_core.app.config import NodeSettings
from photinus_core.app.config.cluster import fingerprint, session_min_s
from photinus_core.cluster import (
    ElectionRules,
    EnsembleSettings,
    LocalElector,
    TlsSettings,
    ZooKeeperElector,
)
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.elector import Elector, Replica
from photinus_core.ports.store import Store

EVERYWHERE: Final = ("0.0.0.0:", "[::]:", ":")
"""Addresses that are listened on, and that nobody can dial."""


def configuration_digest(settings: NodeSettings) -> str:
    """Stands for what must be alike in all replicas."""
    return fingerprint(settings.namespaces, settings.plugins, str(settings.default_namespace))


def describe_replica(settings: NodeSettings, address: str, version: str) -> Replica:
    """What this replica registers as.

    Args:
        settings: The node's.
        address: Where it listens.
        version: Of the program.
    """
    cluster = settings.cluster
    host = socket.gethostname()
    for everywhere in EVERYWHERE:
        if address.startswith(everywhere):
            address = f"{host}:{address.removeprefix(everywhere)}"
    place = address.rpartition(":")[2]
    if address.startswith("unix:"):
        place = hashlib.sha256(address.encode()).hexdigest()[:8]
    return Replica(
        name=cluster.replica or f"{host}-{place}",
        address=cluster.address or address,
        version=version,
        fingerprint=configuration_digest(settings),
        since=SystemClock().now(),
    )


async def open_elector(
    settings: NodeSettings,
    directory: Path,
    store: Store,
    replica: Replica,
    stack: AsyncExitStack,
    folder: str = "",
) -> Elector:
    """Makes the elector of a database; the stack closes it.

    Args:
        settings: The node's.
        directory: Where relative paths begin.
        store: The database.
        replica: What others see of this one.
        stack: Closes it.
        folder: Of the database's own below the ensemble's chroot; empty for the first one.

    Raises:
        Rejected: FF19155, the session timeout does not fit the database's.
    """
    ensemble = settings.cluster.ensemble
    if ensemble is None:
        return LocalElector(store, replica)
    rules = ElectionRules(
        session_min_s=session_min_s(settings.plugins),
        quiet_s=settings.cluster.hand_over_after_s,
    )
    located = _below(_located(ensemble, directory), folder)
    return await stack.enter_async_context(ZooKeeperElector(located, store, replica, rules))


def ensembles(
    settings: NodeSettings, directory: Path, databases: Iterable[str]
) -> dict[str, EnsembleSettings | None]:
    """Where the leaders of each database's namespaces are elected; None for no ensemble."""
    ensemble = settings.cluster.ensemble
    if ensemble is None:
        return dict.fromkeys(databases)
    located = _located(ensemble, directory)
    found: dict[str, EnsembleSettings | None] = {}
    for name in databases:
        found[name] = _below(located, name if found else "")
    return found


def _below(ensemble: EnsembleSettings, folder: str) -> EnsembleSettings:
    """A second database has leases and a folder of its own."""
    return replace(ensemble, chroot=f"{ensemble.chroot}/{folder}") if folder else ensemble


def _located(ensemble: EnsembleSettings, directory: Path) -> EnsembleSettings:
    """Paths of certificates begin where the configuration is."""
    tls = ensemble.tls
    if tls is None:
        return ensemble
    ca, cert, key = (None if p is None else directory / p for p in (tls.ca, tls.cert, tls.key))
    return replace(ensemble, tls=TlsSettings(ca, cert, key, tls.verify_host))
