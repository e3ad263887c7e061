"""TLS of the gRPC endpoint: certificates from files, read again when they change."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from photinus_core.model.errors import Rejected

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files.

    Attributes:
        certificate: With the chain behind it.
        key: Its key, without a password.
        ca: What certificates of clients, and of other replicas, descend from; None for none.
        require_client: Whether clients must show one.
    """

    certificate: Path
    key: Path
    ca: Path | None = None
    require_client: bool = False


def check_files(files: TlsFiles) -> None:
    """Looks whether files can be used.

    Raises:
        Rejected: FF19214: which one cannot, and why.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path in (files.certificate, files.key, files.ca):
        if path is not None:
            try:
                path.read_bytes()
            except OSError as failure:
                raise Rejected("FF19214", path, failure.strerror or failure) from failure
    try:
        # Without a password it would be asked for at the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as failure:
        reason = f"it is no PEM certificate with the key of {files.key}: {failure}"
        raise Rejected("FF19214", files.certificate, reason) from failure
    if files.ca is not None:
        try:
            context.load_verify_locations(cafile=files.ca)
        except (ssl.SSLError, ValueError) as failure:
            reason = f"it holds no certificate in PEM: {failure}"
            raise Rejected("FF19214", files.ca, reason) from failure


class ServerTls:
    """Certificates of an endpoint. Files that changed are used from the next connection on.

    Args:
        files: Which ones.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamps: tuple[tuple[int, int, int], ...] = ()

    def server_credentials(self) -> grpc.ServerCredentials:
        """What a port is opened with.

        Raises:
            Rejected: FF19214: a file cannot be used.
        """
        check_files(self._files)
        self._stamps = self._look()
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._changed,  # type: ignore[arg-type]  # None leaves things as they are; the stubs do not know
            self._files.require_client,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What other replicas are dialled with: this one's certificate, and the same authority."""
        files = self._files
        return grpc.ssl_channel_credentials(
            None if files.ca is None else files.ca.read_bytes(),
            files.key.read_bytes(),
            files.certificate.read_bytes(),
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each handshake; None leaves things as they are."""
        try:
            now = self._look()
            if now == self._stamps:
                return None
            check_files(self._files)
            self._stamps = now
            made = self._configuration()
        except (OSError, Rejected) as failure:
            log.error("certificates have changed and cannot be used, the former serve: %s", failure)  # noqa: TRY400 - no trace helps
            return None
        log.info("serving with the certificates that are there now")
        return made

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        files = self._files
        return grpc.ssl_server_certificate_configuration(
            [(files.key.read_bytes(), files.certificate.read_bytes())],
            None if files.ca is None else files.ca.read_bytes(),
        )

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        paths = (self._files.certificate, self._files.key, self._files.ca)
        found = [path.stat() for path in paths if path is not None]
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)
