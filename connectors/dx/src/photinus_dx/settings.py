"""What an operator can set: frozen structures, from which the configuration's JSON Schema comes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

MIB = 1024 * 1024
GIB = 1024 * MIB

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Where the connector ends. Each limit names the error that exceeding it gives."""

    max_message_bytes: Annotated[
        int,
        Meta(
            ge=1,
            le=3 * MIB,
            description="Largest message, sent or received: MESSAGE_TOO_LARGE. It travels to the "
            "core in one gRPC frame.",
        ),
    ] = 3 * MIB
    max_blob_bytes: Annotated[
        Positive, Meta(description="Largest blob, uploaded or received: BLOB_TOO_LARGE.")
    ] = 16 * GIB
    inbox_messages_per_peer: Annotated[
        Positive,
        Meta(description="Messages of one peer the core has not stored yet: INBOX_FULL (429)."),
    ] = 2_000
    inbox_bytes_per_peer: Annotated[
        Positive, Meta(description="Bytes of those messages: INBOX_FULL (429).")
    ] = 256 * MIB
    inbox_blob_bytes_per_peer: Annotated[
        Positive,
        Meta(description="Bytes of blobs of one peer the core has not stored yet: INBOX_FULL."),
    ] = 32 * GIB
    unclaimed_messages_per_peer: Annotated[
        Positive,
        Meta(
            description="Messages and blobs of one peer for nodes no core has ever asked for: "
            "UNKNOWN_DESTINATION (404)."
        ),
    ] = 200
    outbox_messages: Annotated[
        Positive, Meta(description="Messages and blobs waiting for all peers: OUTBOX_FULL.")
    ] = 100_000
    concurrent_requests_per_peer: Annotated[
        Positive,
        Meta(description="Requests of one peer served at a time: TOO_MANY_REQUESTS (429)."),
    ] = 16
    max_peers: Annotated[Positive, Meta(description="Peers of one namespace: TOO_MANY_PEERS.")] = (
        10_000
    )


class Delivery(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """How patient the connector is with its peers."""

    request_timeout_s: Annotated[
        Seconds, Meta(description="Longest silence of a peer during a request.")
    ] = 30.0
    connect_timeout_s: Annotated[Seconds, Meta(description="Longest wait for a connection.")] = 5.0
    backoff_initial_s: Annotated[Seconds, Meta(description="First pause after a failure.")] = 0.1
    backoff_max_s: Annotated[Seconds, Meta(description="Longest pause between attempts.")] = 30.0
    give_up_after_s: Annotated[
        Seconds, Meta(description="A send that could not be delivered for so long fails.")
    ] = 7 * 86_400.0
    receipt_resend_s: Annotated[
        Seconds,
        Meta(description="Send again when an accepted message has no receipt for so long."),
    ] = 900.0
    repeat_window_s: Annotated[
        Seconds,
        Meta(description="How long a repeated message is recognised as one already taken."),
    ] = 30 * 86_400.0
    plain_repeat_window_s: Annotated[
        Seconds,
        Meta(description="The same for peers that do not number their messages (FireFly)."),
    ] = 600.0
    partial_retention_s: Annotated[
        Seconds, Meta(description="How long an interrupted blob can be resumed.")
    ] = 86_400.0


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Configuration of one data exchange."""

    listen: Annotated[
        str,
        Meta(
            pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\[\]]+):\d{1,5}$",
            description="Host and port peers connect to. Port 0 takes a free one at the first "
            "start and keeps it.",
        ),
    ] = "127.0.0.1:0"
    endpoint: Annotated[
        str,
        Meta(
            pattern=r"^(https://[^/?#\s]+(/[^?#\s]*)?)?$",
            description="URL other members reach this one at; empty for https://<listen>.",
        ),
    ] = ""
    organization: Annotated[
        str,
        Meta(
            pattern=r"^[^/\x00-\x1f]{0,64}$",
            description="Subject O of the certificate made at the first start; the peer id. Empty "
            "for a random one.",
        ),
    ] = ""
    organizational_unit: Annotated[
        str,
        Meta(
            pattern=r"^[^/\x00-\x1f]{0,64}$",
            description="Subject OU of that certificate; appended to the peer id with a dash.",
        ),
    ] = ""
    certificate_file: Annotated[
        str, Meta(description="PEM certificate to use instead of an own one; needs keyFile.")
    ] = ""
    key_file: Annotated[str, Meta(description="PEM private key of certificateFile.")] = ""
    limits: Limits = Limits()
    delivery: Delivery = Delivery()
