"""What an operator can set. The shape of `api` and `gateway` is FireFly's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from photinus_sdk import Secret

GIB = 1024**3

HttpUrl = Annotated[str, Meta(pattern=r"^https?://[^/?#\s@]+(:\d+)?/?$")]


class BasicAuthentication(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """User and password of a proxy in front of the node."""

    username: str
    password: Secret


class HttpService(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """One of the node's two services."""

    url: HttpUrl
    auth: BasicAuthentication | None = None


class IpfsSettings(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Configuration of a shared storage: a Kubo node when `api` is given, else a directory."""

    api: Annotated[HttpService | None, Meta(description="Kubo's RPC API, usually port 5001.")] = (
        None
    )
    gateway: Annotated[
        HttpService | None,
        Meta(description="Kubo's gateway, usually port 8080; without it the RPC API is read."),
    ] = None
    directory: Annotated[
        Path | None,
        Meta(
            description="Folder of the embedded storage, shared by all members of one machine. "
            "Without it and without api, a folder of the connector's own."
        ),
    ] = None
    request_timeout_s: Annotated[
        float,
        Meta(gt=0, description="Longest wait for the node to give a block or to pin a file."),
    ] = 30.0
    max_payload_bytes: Annotated[
        int, Meta(ge=1, description="Largest file, stored or read: PAYLOAD_TOO_LARGE.")
    ] = 16 * GIB
