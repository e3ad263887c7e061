"""Connectors a user brings to a network of one machine: `photinus up --plugins FILE`.

The file is a piece of a node's configuration, `plugins:` with what is to stand in place of ours. It is kept in the
network's folder, so that a later start finds the same. Each member gets a copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from photinus_core.app.devnet.layout import Layout, MemberState
from photinus_core.app.devnet.processes import StartError

REPLACEABLE: Final = ("sharedstorage",)
"""What every member configures alike. Keys of the chain and ports of the data exchange are each member's own."""

Plugins = dict[str, list[dict[str, Any]]]
"""Plugins by category, scalars as the text they were written as."""


def read_plugins(path: Path) -> str:
    """The text of a user's file, after a look at it.

    Raises:
        StartError: it is none that `plugins_of` can use.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        message = f"--plugins: {path} cannot be read: {failure}"
        raise StartError(message) from failure
    _parsed(text, path)
    return text


def keep_plugins(layout: Layout, text: str) -> None:
    """Takes a text into the network's folder; it may hold secrets."""
    layout.plugins.unlink(missing_ok=True)
    layout.plugins.touch(mode=0o600)
    layout.plugins.write_text(text, encoding="utf-8")


def plugins_of(layout: Layout, member: MemberState) -> Plugins:
    """The plugins a member has in place of ours; empty when none were ever given.

    Raises:
        StartError: what is kept cannot be used for this member.
    """
    if not layout.plugins.exists():
        return {}
    found = _parsed(layout.plugins.read_text(encoding="utf-8"), layout.plugins)
    for plugin in (each for plugins in found.values() for each in plugins):
        connector = plugin.get("connector")
        if not isinstance(connector, dict):
            continue
        if "launch" in connector and member.connector_ports:
            message = (
                f"{layout.plugins}: replicas share a connector that runs on its own: start "
                f"{plugin.get('name')} yourself, and give its address in place of launch"
            )
            raise StartError(message)
        if "address" in connector:
            # Members may attach to one process; each is an instance of its own there.
            connector.setdefault("instance", f"member{member.index}")
    return found


def check_config(path: Path) -> None:
    """Has a member's configuration looked at before its core is: a core's words are in a log.

    Raises:
        StartError: with all that is wrong.
    """
    from photinus_core.app.config import ConfigError, load  # noqa: PLC0415 - a network in memory does without

    try:
        load(path)
    except ConfigError as failure:
        problems = "\n".join(str(problem) for problem in failure.problems)
        message = f"with the plugins given, a member cannot start:\n{problems}"
        raise StartError(message) from failure


def _parsed(text: str, path: Path) -> Plugins:
    """Checks the outer form; what is in an entry is the core's to check."""
    try:
        # Scalars stay text, as in a node's configuration: 0x10 is no 16.
        found = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes texts, lists and mappings
    except yaml.YAMLError as failure:
        message = f"{path} is no YAML: {failure}"
        raise StartError(message) from failure
    if not isinstance(found, dict) or set(found) != {"plugins"}:
        message = f"{path}: there must be `plugins:`, and nothing else"
        raise StartError(message)
    plugins = found["plugins"]
    if not isinstance(plugins, dict) or not plugins or set(plugins) - set(REPLACEABLE):
        message = (
            f"{path}: `plugins:` takes {', '.join(REPLACEABLE)}; the others are the network's own"
        )
        raise StartError(message)
    for category, entries in plugins.items():
        usable = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
        if not usable or not entries:
            message = f"{path}: {category} must be a list of plugins"
            raise StartError(message)
    return plugins
