"""The `plugins` section: what there is to connect to, and how."""

from __future__ import annotations

from copy import deepcopy
from typing import Final

from photinus_core.app.config.connectors import read_connector
from photinus_core.app.config.database import read_database
from photinus_core.app.config.settings import DiscoverySettings, PluginSettings
from photinus_core.app.config.tree import Node
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.model.names import check_name

CATEGORIES: Final = (
    "database",
    "blockchain",
    "dataexchange",
    "sharedstorage",
    "tokens",
    "identity",
    "auth",
)
KNOWN_TYPES: Final = {
    "blockchain": frozenset({"ethereum", "fabric", "tezos", "cardano"}),
    "dataexchange": frozenset({"ffdx"}),
    "sharedstorage": frozenset({"ipfs"}),
    "tokens": frozenset({"fftokens"}),
}
"""FireFly's types; any other one needs a `connector`."""
_UNKNOWN_TYPE: Final = {
    "blockchain": "FF10110",
    "dataexchange": "FF10213",
    "sharedstorage": "FF10134",
    "tokens": "FF10272",
}


WITHOUT_CONNECTOR: Final = frozenset({"database", "identity", "auth"})


def read_plugins(section: Node, discovery: DiscoverySettings) -> tuple[PluginSettings, ...]:
    """Reads all plugins; names are unique over all categories."""
    plugins: dict[str, PluginSettings] = {}
    for category in CATEGORIES:
        for entry in section.list(category):
            made = _plugin(category, entry, discovery)
            if made is None:
                continue
            if made.name in plugins:
                entry.report.add(entry, Rejected("FF10395", made.name))
            plugins[made.name] = made
    section.check_unknown()
    return tuple(plugins.values())


def _plugin(category: str, entry: Node, discovery: DiscoverySettings) -> PluginSettings | None:
    name, kind = entry.text("name"), entry.text("type")
    if not name or not kind:
        entry.report.add(entry, Rejected("FF10386", category))
        return None
    try:
        check_name(name, "name")
    except PhotinusError as failure:
        entry.report.add(entry, Rejected("FF19305", "name", str(failure)))
    if category == "database":
        return read_database(entry, name, kind)
    if category == "auth":  # read again, with what it grants, in `access`
        return PluginSettings(name, category, kind, config=deepcopy(entry).plain())
    sockets = DiscoverySettings() if category in WITHOUT_CONNECTOR else discovery
    connector = read_connector(entry, name, kind, sockets)
    if category in KNOWN_TYPES and connector is None and kind not in KNOWN_TYPES[category]:
        entry.report.add(entry, Rejected(_UNKNOWN_TYPE[category], kind))
    broadcast_name = entry.text("broadcastName")
    config = entry.get(kind)
    plain = None if config is None else config.plain()
    entry.check_unknown()
    return PluginSettings(
        name, category, kind, connector, plain, broadcast_name=broadcast_name or name
    )
