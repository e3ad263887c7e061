"""Certificates for one run of a launched connector: nobody else can dial it, or answer for it.

An authority is made, signs one certificate for each side, and its key is forgotten. The child finds
its side in files named by its environment, which are removed once it has said where it listens;
files rather than a certificate of its own making, since not every language can make one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

ONE_TIME_NAME: Final = "connector.photinus.internal"
CERTIFICATE_VARIABLE: Final = "PHOTINUS_TLS_CERT"
KEY_VARIABLE: Final = "PHOTINUS_TLS_KEY"
CLIENT_CA_VARIABLE: Final = "PHOTINUS_TLS_CLIENT_CA"


@dataclass(frozen=True, slots=True)
class OneTimeTls:
    """Both sides' certificates, PEM."""

    ca: bytes
    core_certificate: bytes
    core_key: bytes = field(repr=False)
    child_certificate: bytes
    child_key: bytes = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """Makes them; takes some milliseconds."""
        # Loaded when a connector is launched: a core that launches none starts sooner.
        from photinus_core.host.one_time_authority import sign  # noqa: PLC0415 - as said

        return cls(*sign("core.photinus.internal", ONE_TIME_NAME))

    def hand_over(self, folder: Path) -> Mapping[str, str]:
        """Writes the child's side into a folder of its own; gives the environment that names it."""
        remove(folder)
        folder.mkdir(mode=0o700, parents=True)
        environment = {}
        for variable, name, content in (
            (CERTIFICATE_VARIABLE, "cert.pem", self.child_certificate),
            (KEY_VARIABLE, "key.pem", self.child_key),
            (CLIENT_CA_VARIABLE, "client-ca.pem", self.ca),
        ):
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)
            environment[variable] = str(path.absolute())
        return environment


def remove(folder: Path) -> None:
    """Removes what was handed over."""
    shutil.rmtree(folder, ignore_errors=True)
