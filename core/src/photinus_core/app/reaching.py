"""How the commands reach a node: its address, its certificates, and who they say they are.

Secrets come from files or the environment, never from the command line, which everybody can see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from photinus_core.app.devnet.processes import StartError

if TYPE_CHECKING:
    import argparse

    import grpc

DEFAULT_API: Final = "127.0.0.1:5001"


@dataclass(frozen=True, slots=True)
class Api:
    """A node's typed API.

    Attributes:
        address: `unix:<path>` or `host:port`.
        authorization: Value of `authorization`; empty for none.
        ca: PEM of what its certificate descends from; None for plain text.
        certificate, key: PEM of what it is shown.
    """

    address: str
    authorization: str = field(default="", repr=False)
    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.address

    def channel(self) -> grpc.aio.Channel:
        """A channel on which every call says who calls."""
        import grpc  # noqa: PLC0415 - loaded when a command needs it
        from photinus_client import authorizing  # noqa: PLC0415 - likewise

        interceptors = authorizing(self.authorization)
        if self.ca is None:
            return grpc.aio.insecure_channel(self.address, interceptors=interceptors)
        credentials = grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)
        return grpc.aio.secure_channel(self.address, credentials, interceptors=interceptors)


def add_api(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Adds the options of a command that asks a node."""
    default = environment.get("PHOTINUS_API", DEFAULT_API)
    parser.add_argument(
        "--api", "--address", default=default, help=f"gRPC address of the node ({default})"
    )
    group = parser.add_argument_group("who asks, where the node wants to know")
    group.add_argument(
        "--user",
        default=environment.get("PHOTINUS_USER", ""),
        help="name of a user; the password is in $PHOTINUS_PASSWORD or --password-file",
    )
    for option, what in (
        ("--password-file", "its password"),
        ("--token-file", "a bearer token (or $PHOTINUS_TOKEN)"),
        ("--ca", "certificates that the node's must descend from; switches TLS on"),
        ("--cert", "certificate to show to it"),
        ("--key", "key of that"),
    ):
        name = f"PHOTINUS_{option[2:].upper().replace('-', '_')}"
        group.add_argument(
            option,
            type=Path,
            metavar="FILE",
            default=Path(environment[name]) if environment.get(name) else None,
            help=f"file with {what} (${name})",
        )


def api_of(parsed: argparse.Namespace, environment: Mapping[str, str]) -> Api:
    """What the options say.

    Raises:
        StartError: they contradict each other, or a file cannot be read.
    """
    if (parsed.cert is None) != (parsed.key is None):
        raise StartError("--cert and --key go together")
    if parsed.cert is not None and parsed.ca is None:
        raise StartError("--cert goes with --ca")
    return Api(
        parsed.api,
        _authorization(parsed, environment),
        _bytes(parsed.ca),
        _bytes(parsed.cert),
        _bytes(parsed.key),
    )


def _authorization(parsed: argparse.Namespace, environment: Mapping[str, str]) -> str:
    from photinus_client import basic, bearer  # noqa: PLC0415 - loaded when a command needs it

    token = _text(parsed.token_file) or environment.get("PHOTINUS_TOKEN", "").strip()
    if parsed.user and token:
        raise StartError("give a user or a token, not both")
    if parsed.user:
        password = _text(parsed.password_file) or environment.get("PHOTINUS_PASSWORD", "")
        if not password:
            raise StartError(
                f"the password of {parsed.user} is missing: $PHOTINUS_PASSWORD or a file"
            )
        return basic(parsed.user, password)
    return bearer(token) if token else ""


def _text(path: Path | None) -> str:
    """The first line of a file."""
    found = _bytes(path)
    return "" if found is None else found.decode(errors="replace").partition("\n")[0].rstrip("\r")


def _bytes(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as failure:
        raise StartError(f"{path}: {failure.strerror or failure}") from failure
