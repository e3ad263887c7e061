"""How connectors are reached: `connector` of a plugin, and `connectors` for all of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from photinus_core.app.config.settings import ConnectorSettings, DiscoverySettings
from photinus_core.app.config.tree import Node
from photinus_core.host import TlsFiles, WhenAway
from photinus_core.host.channels import check_files
from photinus_core.host.instances import checked_address
from photinus_core.model.errors import PhotinusError, Rejected
from photinus_core.sequencing.connector_life import LIMITS, SECOND_NS, LifeLimits

HEARTBEAT_MIN_S: Final = 0.1
HEARTBEAT_MAX_S: Final = 3600.0
RESTARTS_MAX: Final = 1000
TLS_KEYS: Final = ("caFile", "certFile", "keyFile")


def read_discovery(section: Node) -> DiscoverySettings:
    """The `connectors` section."""
    made = DiscoverySettings(section.text("directory"))
    section.check_unknown()
    return made


def read_connector(
    entry: Node, name: str, kind: str, discovery: DiscoverySettings
) -> ConnectorSettings | None:
    """The `connector` section of a plugin.

    Args:
        entry: The plugin.
        name: Its name.
        kind: Its type.
        discovery: Where sockets are looked for; a plugin without `connector` is looked for there,
            by its name, then by its type.

    Returns:
        None when the configuration does not say how the plugin is reached.
    """
    if entry.get("connector") is None:
        names = (name, kind) if name != kind else (name,)
        return ConnectorSettings(discover=names) if discovery.directory else None
    section = entry.section("connector")
    discover = section.text("discover")
    made = ConnectorSettings(
        address=section.text("address"),
        launch=_command(section),
        discover=(discover,) if discover else (),
        instance=section.text("instance"),
        insecure=section.boolean("insecure", default=False),
        tls=_tls(section),
        when_away=_when_away(section),
        limits=_limits(section),
    )
    if sum(map(bool, (made.address, made.launch, made.discover))) != 1:
        _wrong(section, "connector", "give one of address, launch and discover")
    elif made.address:
        _check_address(section, made)
    elif section.get("tls") is not None:
        _wrong(
            section, "tls", "is for an address; launched connectors get certificates by themselves"
        )
    if discover and not discovery.directory:
        _wrong(section, "discover", "needs connectors.directory")
    section.check_unknown()
    return made


def _check_address(section: Node, made: ConnectorSettings) -> None:
    place = section.get("address") or section
    address, folder = made.address, Path(section.report.file).parent
    if address.startswith("unix:") and not address.startswith("unix:/"):
        address = f"unix:{folder.absolute() / address.removeprefix('unix:')}"
    has_tls = section.get("tls") is not None
    try:
        checked_address(address, insecure=made.insecure, tls=has_tls)
    except Rejected as failure:
        place.report.add(place, failure)


def _tls(section: Node) -> TlsFiles | None:
    found = section.get("tls")
    if found is None:
        return None
    tls, folder = section.section("tls"), Path(section.report.file).parent
    named = {key: tls.text(key) for key in TLS_KEYS}
    missing = [key for key in TLS_KEYS if not named[key]]
    server_name = tls.text("serverName")
    tls.check_unknown()
    if missing:
        _wrong(section, "tls", f"is mutual and needs {', '.join(missing)}, too")
        return None
    ca, certificate, key_file = (folder / named[key] for key in TLS_KEYS)
    files = TlsFiles(ca, certificate, key_file, server_name)
    readable = True
    for key, path in zip(TLS_KEYS, (ca, certificate, key_file), strict=True):
        try:
            path.read_bytes()
        except OSError as error:
            place = tls.get(key) or tls
            place.report.add(place, Rejected("FF19214", path, error.strerror or error))
            readable = False
    if readable:
        try:
            check_files(files)
        except PhotinusError as failure:
            tls.report.add(found, Rejected("FF19305", "tls", str(failure)))
    return files


def _when_away(section: Node) -> WhenAway:
    text = section.text("whenAway", WhenAway.QUEUE).lower()
    try:
        return WhenAway(text)
    except ValueError:
        _wrong(section, "whenAway", f"'{text}' is neither queue nor fail")
        return WhenAway.QUEUE


def _limits(section: Node) -> LifeLimits | None:
    """How patient the core is; None for the usual."""
    heartbeat, restarts = section.section("heartbeat"), section.section("restarts")
    made = LifeLimits(
        ping_every_ns=_duration_ns(heartbeat, "interval", LIMITS.ping_every_ns, zero=True),
        silence_max_ns=_duration_ns(heartbeat, "timeout", LIMITS.silence_max_ns),
        restarts_max=restarts.integer("max", LIMITS.restarts_max, 0, RESTARTS_MAX),
        restart_window_ns=_duration_ns(restarts, "window", LIMITS.restart_window_ns),
        cool_down_ns=_duration_ns(restarts, "coolDown", LIMITS.cool_down_ns),
    )
    heartbeat.check_unknown()
    restarts.check_unknown()
    return None if made == LIMITS else made


def _duration_ns(section: Node, key: str, default_ns: int, *, zero: bool = False) -> int:
    found_s = section.duration_s(key, default_ns / SECOND_NS)
    if not (HEARTBEAT_MIN_S <= found_s <= HEARTBEAT_MAX_S or (zero and found_s == 0)):
        also = "0, or " if zero else ""
        _wrong(section, key, f"must be {also}{HEARTBEAT_MIN_S:g}s to {HEARTBEAT_MAX_S:g}s")
        return default_ns
    return round(found_s * SECOND_NS)


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
        _wrong(section, "launch", str(failure))
        return ()


def _wrong(section: Node, key: str, text: str) -> None:
    place = section.get(key) or section
    place.report.add(place, Rejected("FF19305", key, text))
