"""Electors: who leads what, among the replicas of one core."""

from photinus_core.cluster.ensemble import EnsembleSession, EnsembleSettings, TlsSettings
from photinus_core.cluster.identity import rebind
from photinus_core.cluster.local import LocalElector
from photinus_core.cluster.zookeeper import ElectionRules, ZooKeeperElector

__all__ = [
    "ElectionRules",
    "EnsembleSession",
    "EnsembleSettings",
    "LocalElector",
    "TlsSettings",
    "ZooKeeperElector",
    "rebind",
]
