"""The `plugins` section: what there is to connect to, and how."""

from __future__ import annotations

import shlex
from typing import Final

from photinus_core.app.config.database import read_database
from photinus_core.app.config.settings import ConnectorSettings, PluginSettings
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


def read_plugins(section: Node) -> tuple[PluginSettings, ...]:
    """Reads all plugins; names are unique over all categories."""
    plugins: dict[str, PluginSettings] = {}
    for category in CATEGORIES:
        for entry in section.list(category):
            made = _plugin(category, entry)
            if made is None:
                continue
            if made.name in plugins:
                entry.report.add(entry, Rejected("FF10395", made.name))
            plugins[made.name] = made
    section.check_unknown()
    return tuple(plugins.values())


def _plugin(category: str, entry: Node) -> PluginSettings | None:
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
    connector = _connector(entry)
    if category in KNOWN_TYPES and connector is None and kind not in KNOWN_TYPES[category]:
        entry.report.add(entry, Rejected(_UNKNOWN_TYPE[category], kind))
    entry.text("broadcastName")
    config = entry.get(kind)
    plain = None if config is None else config.plain()
    entry.check_unknown()
    return PluginSettings(name, category, kind, connector, plain)


def _connector(entry: Node) -> ConnectorSettings | None:
    if entry.get("connector") is None:
        return None
    section = entry.section("connector")
    address, launch = section.text("address"), _command(section)
    made = ConnectorSettings(
        address, launch, section.text("instance"), section.boolean("insecure", default=False)
    )
    if bool(address) == bool(launch):
        entry.report.add(section, Rejected("FF19305", "connector", "give either address or launch"))
    section.check_unknown()
    return made


def _command(section: Node) -> tuple[str, ...]:
    found = section.get("launch")
    if found is None:
        return ()
    if found.items is not None:
        for item in found.items:
            if item.scalar is None:
                item.report.add(item, Rejected("FF19305", "launch", "must be a list of texts"))
        return tuple(item.scalar or "" for item in found.items)
    try:
        return tuple(shlex.split(section.text("launch")))
    except ValueError as failure:
        found.report.add(found, Rejected("FF19305", "launch", str(failure)))
        return ()
