"""Reads a node's configuration.

FireFly's YAML shape, environment overrides, errors with line numbers.
"""

from photinus_core.app.config.loader import load, load_text
from photinus_core.app.config.settings import (
    ClusterSettings,
    ConnectorSettings,
    DiscoverySettings,
    ListenSettings,
    LogFields,
    LogSettings,
    MonitoringSettings,
    NodeSettings,
    PluginSettings,
    TracingSettings,
)
from photinus_core.app.config.tree import ConfigError, Problem

__all__ = [
    "ClusterSettings",
    "ConfigError",
    "ConnectorSettings",
    "DiscoverySettings",
    "ListenSettings",
    "LogFields",
    "LogSettings",
    "MonitoringSettings",
    "NodeSettings",
    "PluginSettings",
    "Problem",
    "TracingSettings",
    "load",
    "load_text",
]
