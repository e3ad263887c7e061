"""How an instance is reached, as the configuration says, and what is checked before it is tried."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from photinus.connector.v1 import connector_pb2 as wire

from photinus_core.model.errors import Rejected
from photinus_core.sequencing.connector_life import LifeLimits

SOCKET_PATH_BYTES_MAX: Final = 100
INSTANCE_CHARS_MAX: Final = 63
_INSTANCE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

Plain = str | None | list["Plain"] | dict[str, "Plain"]
"""Configuration as written: scalars are text until the connector's schema types them."""


class Category(StrEnum):
    """What a connector is used for."""

    BLOCKCHAIN = "blockchain"
    TOKENS = "tokens"
    DATA_EXCHANGE = "dataexchange"
    SHARED_STORAGE = "sharedstorage"

    @property
    def contract(self) -> wire.ContractKind.ValueType:
        """The contract a connector of this category fulfils."""
        return _CONTRACTS[self]


_CONTRACTS: Final = {
    Category.BLOCKCHAIN: wire.CONTRACT_KIND_BLOCKCHAIN,
    Category.TOKENS: wire.CONTRACT_KIND_TOKENS,
    Category.DATA_EXCHANGE: wire.CONTRACT_KIND_DATA_EXCHANGE,
    Category.SHARED_STORAGE: wire.CONTRACT_KIND_SHARED_STORAGE,
}


class WhenAway(StrEnum):
    """What becomes of submissions while a connector is away. Everything else fails at once."""

    QUEUE = "queue"
    """They wait a while for it."""
    FAIL = "fail"
    """They fail at once, and nothing was sent."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for mutual TLS.

    Attributes:
        ca: Certificates that the connector's must be signed by.
        certificate: The core's own, with those between it and what the connector trusts.
        key: The core's private key, without a password.
        server_name: Name in the connector's certificate; the one of the address when empty.
    """

    ca: Path
    certificate: Path
    key: Path
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class InstanceConfig:
    """One configured connector; exactly one of address, launch and discover is given.

    Attributes:
        name: Name of the plugin in the configuration.
        category: What it is used for.
        plugin_type: Type in the configuration, for people.
        address: `unix:<path>`, `dns:///host:port` or `host:port`.
        launch: Command to start it with.
        discover: Names of sockets in the watched directory; the first that is there is used.
        instance: Instance to name at the connector; made from the name when empty.
        insecure: Whether plain TCP on loopback is allowed.
        tls: Files for mutual TLS, with an address that is no socket.
        when_away: What becomes of submissions while it is away.
        limits: How patient the core is with it; the usual ones when None.
        config: What it is configured with.
        revision: Rises with each change an operator makes.
    """

    name: str
    category: Category
    plugin_type: str = ""
    address: str = ""
    launch: tuple[str, ...] = ()
    discover: tuple[str, ...] = ()
    instance: str = ""
    insecure: bool = False
    tls: TlsFiles | None = None
    when_away: WhenAway = WhenAway.QUEUE
    limits: LifeLimits | None = None
    config: Plain = None
    revision: int = 1

    @property
    def instance_name(self) -> str:
        """The instance's name in the form the protocol takes; different names stay different."""
        wanted = self.instance or self.name
        if _INSTANCE.fullmatch(wanted):
            return wanted
        digest = hashlib.sha256(wanted.encode()).hexdigest()[:8]
        slug = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
        return f"{slug[: INSTANCE_CHARS_MAX - 9]}-{digest}".lstrip("-")


def checked_address(address: str, *, insecure: bool, tls: bool = False) -> str:
    """The address in the form gRPC dials.

    Args:
        address: As it was written.
        insecure: Whether plain TCP on loopback is allowed.
        tls: Whether there are certificates for it.

    Raises:
        Rejected: FF19209, FF19212: what is wrong with it.
    """
    if address.startswith("unix:"):
        if tls:
            raise Rejected("FF19212", address, "a unix socket is protected by its folder: no tls")
        path = Path(address.removeprefix("unix:").removeprefix("//")).absolute()
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
            raise Rejected("FF19209", path, SOCKET_PATH_BYTES_MAX)
        return f"unix:{path}"
    host, _, port = address.removeprefix("dns:///").rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise Rejected("FF19212", address, "write unix:/path, dns:///host:port or 127.0.0.1:port")
    if tls and insecure:
        raise Rejected("FF19212", address, "give either tls or `insecure: true`")
    if tls:
        return address
    if not _is_loopback(host):
        raise Rejected("FF19212", address, "beyond loopback it needs tls")
    if not insecure:
        raise Rejected("FF19212", address, "plain TCP needs `insecure: true` beside the address")
    return address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
