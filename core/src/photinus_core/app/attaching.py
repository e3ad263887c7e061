"""From the configuration of plugins to what the plugin host is told."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from photinus_core.app.config import ConnectorSettings, NodeSettings, PluginSettings
from photinus_core.host import Category, InstanceConfig

_CATEGORIES: Final = {
    "blockchain": Category.BLOCKCHAIN,
    "tokens": Category.TOKENS,
    "dataexchange": Category.DATA_EXCHANGE,
    "sharedstorage": Category.SHARED_STORAGE,
}


def instance_config(
    plugin: PluginSettings, connector: ConnectorSettings, directory: Path
) -> InstanceConfig:
    """How the host reaches a plugin's connector; relative sockets are below the directory."""
    return InstanceConfig(
        name=plugin.name,
        category=_CATEGORIES[plugin.category],
        plugin_type=plugin.type,
        address=in_folder(connector.address, directory),
        launch=connector.launch,
        discover=connector.discover,
        instance=connector.instance,
        insecure=connector.insecure,
        tls=connector.tls,
        when_away=connector.when_away,
        limits=connector.limits,
        config=plugin.config,
    )


def socket_directory(settings: NodeSettings, directory: Path) -> Path | None:
    """The watched directory, if there is one; a relative one is below the directory."""
    named = settings.connectors.directory
    return (directory / named).absolute() if named else None


def in_folder(address: str, directory: Path) -> str:
    """An address; a relative socket is one below the directory."""
    if address.startswith("unix:") and not address.startswith("unix:/"):
        return f"unix:{(directory / address.removeprefix('unix:')).absolute()}"
    return address
