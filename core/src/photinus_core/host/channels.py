"""Channels to connectors: plain on sockets and loopback, mutual TLS everywhere else.

Certificates for an address come from files, which are read at each dial, so that renewed ones are
taken with the next connection. A launched child gets certificates made for this one run.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final

import grpc

from photinus_core.host.instances import InstanceConfig, TlsFiles, checked_address
from photinus_core.host.one_time_tls import ONE_TIME_NAME, OneTimeTls
from photinus_core.model.errors import Rejected

MESSAGE_BYTES_MAX: Final = 4 << 20

_OPTIONS: Final = (
    # Else a new channel inherits the old one's waiting times.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
)


@dataclass(frozen=True, slots=True)
class Target:
    """What to dial, and with which certificates.

    Attributes:
        address: In gRPC's form.
        ca, certificate, key: PEM; all empty for a plain channel.
        server_name: Name in the connector's certificate; the one of the address when empty.
    """

    address: str
    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    server_name: str = ""

    def channel(self) -> grpc.aio.Channel:
        """A new channel; dials when it is first used."""
        if not self.ca:
            # The C core would send the socket's path as authority, which other languages refuse.
            plain = (*_OPTIONS, ("grpc.default_authority", "localhost"))
            return grpc.aio.insecure_channel(self.address, options=plain)
        credentials = grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)
        named = (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()
        return grpc.aio.secure_channel(self.address, credentials, options=(*_OPTIONS, *named))


def configured_target(config: InstanceConfig, address: str = "") -> Target:
    """The target of an instance that is not launched.

    Args:
        config: How it is reached.
        address: Where it was discovered; the configured one when empty.

    Raises:
        Rejected: FF19209, FF19212, FF19214: what is wrong with address or certificates.
    """
    if address:
        return Target(checked_address(address, insecure=False))
    has_tls = config.tls is not None
    checked = checked_address(config.address, insecure=config.insecure, tls=has_tls)
    return Target(checked) if config.tls is None else _with_files(checked, config.tls)


def launched_target(
    address: str, one_time: OneTimeTls, *, serves_tls: bool, insecure: bool
) -> Target:
    """The target of a child, as its handshake says.

    Raises:
        Rejected: FF19209, FF19212: what is wrong with the address.
    """
    if not serves_tls or address.startswith("unix:"):
        return Target(checked_address(address, insecure=insecure))
    return Target(
        checked_address(address, insecure=False, tls=True),
        one_time.ca,
        one_time.core_certificate,
        one_time.core_key,
        ONE_TIME_NAME,
    )


def check_files(files: TlsFiles) -> None:
    """Looks whether files can be used.

    Raises:
        Rejected: FF19214: which one cannot, and why.
    """
    _with_files("", files)


def _with_files(address: str, files: TlsFiles) -> Target:
    read: list[bytes] = []
    for path in (files.ca, files.certificate, files.key):
        try:
            read.append(path.read_bytes())
        except OSError as error:
            raise Rejected("FF19214", path, error.strerror or error) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=read[0].decode())
    except (ssl.SSLError, ValueError) as error:
        raise Rejected("FF19214", files.ca, f"it holds no certificate in PEM: {error}") from error
    try:
        # Without a password it would be asked for at the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = f"it is no PEM certificate with the key of {files.key}: {error}"
        raise Rejected("FF19214", files.certificate, reason) from error
    ca, certificate, key = read
    return Target(address, ca, certificate, key, files.server_name)
