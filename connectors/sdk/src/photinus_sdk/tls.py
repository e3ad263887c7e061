"""Mutual TLS for a connector that listens on TCP: who may dial it, and how it shows who it is.

The files come from options, or from the environment, where a core that launches the connector puts
certificates made for this one run.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from photinus_sdk.errors import Rejected

VARIABLES = ("PHOTINUS_TLS_CERT", "PHOTINUS_TLS_KEY", "PHOTINUS_TLS_CLIENT_CA")


@dataclass(frozen=True)
class TlsFiles:
    """PEM files.

    Attributes:
        cert: The connector's certificate, with those between it and what the core trusts.
        key: Its private key, without a password.
        client_ca: Certificates that the core's must be signed by; nobody else is served.
    """

    cert: Path
    key: Path
    client_ca: Path

    def credentials(self) -> grpc.ServerCredentials:
        """What gRPC serves with. Raises Rejected when a file cannot be used."""
        files = (self.cert, self.key, self.client_ca)
        try:
            cert, key, client_ca = (path.read_bytes() for path in files)
        except OSError as error:
            raise Rejected(f"{error.filename} cannot be read: {error.strerror}") from error
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_verify_locations(cadata=client_ca.decode())
        except (ssl.SSLError, ValueError) as error:
            raise Rejected(f"{self.client_ca} holds no certificate in PEM: {error}") from error
        try:
            # Without a password it would be asked for at the terminal.
            context.load_cert_chain(self.cert, self.key, password=lambda: b"")
        except (ssl.SSLError, OSError, ValueError) as error:
            pair = f"{self.cert} is no PEM certificate with the key of {self.key}: {error}"
            raise Rejected(pair) from error
        return grpc.ssl_server_credentials([(key, cert)], client_ca, require_client_auth=True)


def chosen_files(
    given: Sequence[Path | None], environment: Mapping[str, str], address: str, *, insecure: bool
) -> TlsFiles | None:
    """The files to serve with; None for a unix socket, or plain TCP.

    Args:
        given: Certificate, key and client CA, as options say.
        environment: Where they may stand, too; only for TCP.
        address: Where the connector listens.
        insecure: Whether plain TCP was asked for.

    Raises:
        Rejected: some are missing, or contradict the rest.
    """
    if not address or address.startswith("unix:") or insecure:
        if any(given):
            raise Rejected("TLS is for TCP addresses, without --insecure; a socket needs none")
        return None
    if not any(given):
        given = [Path(name) if (name := environment.get(each)) else None for each in VARIABLES]
    found = [path for path in given if path is not None]
    if found and len(found) < len(given):
        raise Rejected("TLS needs three files: --tls-cert, --tls-key and --tls-client-ca")
    return TlsFiles(*found) if found else None
