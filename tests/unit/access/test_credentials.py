"""What clients send as `Authorization`. Table-driven."""

from __future__ import annotations

import base64

import pytest
from photinus_core.access.credentials import (
    CREDENTIAL_BYTES_MAX,
    Credential,
    Password,
    Token,
    read_credential,
)
from photinus_core.model.errors import Unauthenticated


def basic(text: str | bytes) -> str:
    plain = text.encode() if isinstance(text, str) else text
    return "Basic " + base64.b64encode(plain).decode()


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", None),
        (basic("alice:secret"), Password("alice", "secret")),
        (basic("alice:se:cr:et"), Password("alice", "se:cr:et")),
        (basic("alice:"), Password("alice", "")),
        (basic("jürgen:straße"), Password("jürgen", "straße")),
        (basic("a:b").replace("Basic", "bASIC"), Password("a", "b")),
        ("Bearer a.b.c", Token("a.b.c")),
        ("bearer   a.b.c ", Token("a.b.c")),
    ],
)
def test_what_is_understood(text: str, want: Credential | None) -> None:
    assert read_credential(text) == want


@pytest.mark.parametrize(
    "text",
    [
        "Bearer",
        "Bearer  ",
        "Basic",
        "Basic !!!",
        basic("alice"),
        basic(":secret"),
        basic(b"\xff\xfe:x"),
        "Digest username=x",
        "AWS4-HMAC-SHA256 …",
        "alice:secret",
        "Bearer " + "x" * CREDENTIAL_BYTES_MAX,
        basic("x" * CREDENTIAL_BYTES_MAX),
    ],
)
def test_what_is_not(text: str) -> None:
    with pytest.raises(Unauthenticated, match="FF00169") as caught:
        read_credential(text)
    assert "secret" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Password("alice", "secret"))
    assert "a.b.c" not in repr(Token("a.b.c"))
