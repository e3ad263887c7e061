"""Electors: who leads what, among the replicas of one core."""

from photinus_core.cluster.local import LocalElector

__all__ = ["LocalElector"]
