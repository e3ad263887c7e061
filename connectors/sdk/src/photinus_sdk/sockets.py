"""Addresses a connector may listen on.

Unix sockets in a private directory, TCP with mutual TLS, or plain TCP on loopback.
"""

import contextlib
import ipaddress
import os
import socket
import stat
from pathlib import Path

from photinus_sdk.errors import Rejected

PATH_BYTES_MAX = 100
CONNECT_TIMEOUT_S = 2.0


def prepare(address: str, *, insecure: bool, tls: bool = False) -> str:
    """The address in gRPC's form, ready to be bound.

    `unix:/path/name.sock`, or `host:port`, with `tls` or on loopback with `insecure`. The socket's directory is
    made with mode 0700, and must have it. A socket that nobody serves any more is removed; gRPC
    would remove one that is being served, too, and silently take its place.

    Raises:
        Rejected: with what to do about it.
    """
    if not address.startswith("unix:"):
        _check_tcp(address, insecure=insecure, tls=tls)
        return address
    path = Path(address.removeprefix("unix:").removeprefix("//")).absolute()
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise Rejected(f"{path} is longer than {PATH_BYTES_MAX} bytes; choose a shorter directory")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    if mode & 0o077:
        folder = path.parent
        raise Rejected(f"{folder} is open to others (mode {mode:o}); type: chmod 700 {folder}")
    _remove_stale(path)
    return f"unix:{path}"


def keep_private(address: str) -> None:
    """Takes the rights of others from a bound unix socket."""
    Path(address.removeprefix("unix:")).chmod(0o600)


def remove(address: str) -> None:
    """Removes a unix socket that is not served any more."""
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def _check_tcp(address: str, *, insecure: bool, tls: bool) -> None:
    host, _, port = address.removeprefix("dns:///").rpartition(":")
    host = host.strip("[]")
    loopback = host == "localhost"
    with contextlib.suppress(ValueError):
        loopback = ipaddress.ip_address(host).is_loopback
    if not port.isdecimal() or not host:
        raise Rejected(f"{address!r} is no address; write unix:/path or 127.0.0.1:port")
    if not tls and not loopback:
        options = "--tls-cert, --tls-key and --tls-client-ca"
        raise Rejected(f"{host} is not loopback: give {options}; plain TCP is for loopback only")
    if not tls and not insecure:
        raise Rejected("Plain TCP lets every local user call the connector; add --insecure")


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_socket():
        raise Rejected(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise Rejected(f"Another process serves {path}")
