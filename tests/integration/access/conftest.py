"""A core and its gateway, as processes, with namespaces that want passwords, tokens, and nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.rest import wait_until
from tests.support.solo import Solo, node_up
from tests.support.tokens import AUDIENCE, ISSUER, Issuer, basic, bearer, password_file

UP_S: Final = 60.0

USERS: Final = {
    "root": "the secret of root",
    "writer": "the secret of writer",
    "reader": "the secret of reader",
    "nobody": "the secret of nobody",
    "clerk": "the secret of clerk",
}


def config(file: str = "users") -> dict[str, Any]:
    """Namespaces `red` (the default one; passwords or tokens), `blue` (tokens) and `open`."""
    return {
        "config": {"autoReload": True},
        "monitoring": {"enabled": False},
        "plugins": {
            "database": [{"name": "db", "type": "sqlite3", "sqlite3": {"url": "core.db"}}],
            "auth": [
                {
                    "name": "users",
                    "type": "basic",
                    "basic": {"passwordfile": file},
                    "grants": [
                        {"users": "root", "role": "operator"},
                        {"users": "writer", "role": "writer"},
                        {"users": "reader", "role": "reader"},
                        {"users": "clerk", "role": "writer", "author": "acme", "key": "0x1"},
                    ],
                },
                {
                    "name": "sso",
                    "type": "jwt",
                    "jwt": {
                        "issuer": ISSUER,
                        "audience": AUDIENCE,
                        "jwksFile": "keys.json",
                        "algorithms": ["ES256"],
                        "leeway": "0s",
                    },
                    "grants": [
                        {"groups": "operators", "role": "operator"},
                        {"groups": "writers", "role": "writer"},
                        {"groups": "readers", "role": "reader", "namespaces": "blue"},
                    ],
                },
            ],
        },
        "namespaces": {
            "default": "red",
            "predefined": [
                {"name": "red", "plugins": ["db", "users", "sso"]},
                {"name": "blue", "plugins": ["db", "sso"]},
                {"name": "open", "plugins": ["db"]},
            ],
        },
    }


@dataclass(frozen=True)
class Guarded:
    """The node, and who may use it."""

    node: Solo
    issuer: Issuer
    secrets: list[str] = field(default_factory=list)

    def user(self, name: str, password: str = "") -> dict[str, str]:
        """Headers of a user; with a password of its own when none is given."""
        made = basic(name, password or USERS[name])
        self.secrets.append(made.partition(" ")[2])
        return {"Authorization": made}

    def token(self, *groups: str, lasts_s: float = 3600, **changes: Any) -> dict[str, str]:
        """Headers with a token; its bearer is in some groups."""
        now = int(time.time())
        text = self.issuer.token(
            groups=groups, **{"iat": now - 60, "exp": now + int(lasts_s), **changes}
        )
        self.secrets.append(text)
        return {"Authorization": bearer(text)}

    def status(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> int:
        """Status of a request below `/api/v1`."""
        body = b"{}" if method in ("POST", "PUT", "PATCH") else None
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self.node.request(method, path, body, sent).status


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The node; what tests change about it they change back."""
    folder = tmp_path_factory.mktemp("guarded")
    issuer = Issuer("first")
    (folder / "users").write_text(password_file(**USERS))
    (folder / "keys.json").write_text(issuer.key_set())
    with node_up(folder, config()) as node:
        made = Guarded(node, issuer)
        root = made.user("root")

        def is_up() -> bool:
            who = {"red": root, "blue": made.token("operators"), "open": None}
            paths = ((f"/namespaces/{name}/status", headers) for name, headers in who.items())
            return all(made.status("GET", path, headers) == 200 for path, headers in paths)

        wait_until(is_up, UP_S, lambda: (folder / "core.log").read_text()[-2000:])
        yield made


@pytest.fixture(scope="session")
def folder(guarded: Guarded) -> Path:
    """Where its files are."""
    return guarded.node.folder
