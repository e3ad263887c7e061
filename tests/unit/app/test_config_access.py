"""Who may use the node, as the configuration says it: what is read, and each mistake with its line. Table-driven."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from photinus_core.access.roles import Binding, Grant, Role
from photinus_core.access.settings import AccessSettings, PasswordSettings, TokenSettings
from photinus_core.app.config import ConfigError, NodeSettings, load_text
from photinus_core.rpc.tls import TlsFiles

from tests.support.certificates import self_signed
from tests.support.tokens import Issuer, password_file

DOCS: Final = Path(__file__).resolve().parents[3] / "docs"
NAMESPACES = """\
namespaces:
  default: red
  predefined:
  - name: red
  - name: blue
    plugins: [db, sso]
  - name: open
    plugins: [db]
"""
PLUGINS = """\
plugins:
  database:
  - {name: db, type: sqlite3, sqlite3: {url: a.db}}
  auth:
"""
USERS = "  - {name: users, type: basic, basic: {passwordfile: users}}\n"
SSO = """\
  - name: sso
    type: jwt
    jwt:
      issuer: https://login.example.org
      audience: photinus
      jwksUrl: https://login.example.org/keys
    grants:
    - {groups: [ops], role: operator}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "users").write_text(password_file(alice="a"))
    (tmp_path / "keys.json").write_text(Issuer().key_set())
    (tmp_path / "plain").write_text("alice:secret\n")
    (tmp_path / "empty").write_text("# nobody\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    return tmp_path


def read(folder: Path, text: str, environment: dict[str, str] | None = None) -> NodeSettings:
    return load_text(text, str(folder / "f.yaml"), environment or {})


def access(folder: Path, plugins: str, rest: str = "") -> AccessSettings:
    return read(folder, PLUGINS + plugins + NAMESPACES + rest).access


def test_without_plugins_everything_is_open(folder: Path) -> None:
    found = read(folder, PLUGINS.replace("  auth:\n", "") + NAMESPACES.replace(", sso", "")).access
    assert found.all == ()
    assert found.namespaces == {"red": (), "blue": (), "open": ()}


def test_plugins_count_where_namespaces_name_them(folder: Path) -> None:
    found = access(folder, USERS + SSO)
    assert found.default_namespace == "red"
    assert found.namespaces == {"red": ("users", "sso"), "blue": ("sso",), "open": ()}
    users, sso = found.authenticators
    assert users.how == PasswordSettings(folder / "users")
    assert users.grants is None
    assert sso.grants == (Grant(Role.OPERATOR, groups=("ops",)),)
    assert isinstance(sso.how, TokenSettings)
    assert sso.how.audiences == ("photinus",)
    assert sso.how.algorithms == ("RS256", "PS256", "ES256", "EdDSA")
    assert (sso.how.refresh_s, sso.how.keep_s, sso.how.leeway_s) == (300, 86_400, 30)


def test_everything_of_an_issuer_is_read(folder: Path) -> None:
    found = access(
        folder,
        """\
  - name: sso
    type: jwt
    jwt:
      issuer: me
      audience: [a, b]
      jwksFile: keys.json
      algorithms: ES384
      refresh: 1m
      keepFor: 0s
      leeway: 5s
      claims: {subject: email, groups: realm_access.roles}
    grants:
    - {users: [x, y], groups: g, namespaces: red, role: Writer, author: acme, key: '0xA'}
    - {users: "*", role: reader}
""",
    )
    (sso,) = found.authenticators
    assert sso.how == TokenSettings(
        "me",
        ("a", "b"),
        jwks_file=folder / "keys.json",
        algorithms=("ES384",),
        refresh_s=60,
        keep_s=0,
        leeway_s=5,
        subject="email",
        groups="realm_access.roles",
    )
    bound = Binding("did:firefly:org/acme", "0xA")
    assert sso.grants == (
        Grant(Role.WRITER, ("x", "y"), ("g",), ("red",), bound),
        Grant(Role.READER, ("*",)),
    )


def test_fireflys_http_auth_and_that_of_the_spi(folder: Path) -> None:
    found = access(
        folder,
        SSO,
        "http: {auth: {type: basic, basic: {passwordfile: users}}}\n"
        "spi: {auth: {type: basic, basic: {passwordfile: users}, grants: [{users: alice, role: operator}]}}\n",
    )
    assert found.http is not None
    assert (found.http.name, found.http.grants) == ("http.auth", None)
    assert found.spi is not None
    assert found.spi.name == "spi.auth"
    assert [each.name for each in found.all] == ["sso", "http.auth", "spi.auth"]


def test_what_is_not_used_is_not_asked(folder: Path) -> None:
    unused = NAMESPACES.replace("- name: red\n", "- name: red\n    plugins: [db]\n")
    settings = read(folder, PLUGINS + USERS + SSO + unused)
    assert [each.name for each in settings.access.all] == ["sso"]


def test_the_environment_says_where_passwords_are(folder: Path) -> None:
    (folder / "others").write_text(password_file(bob="b"))
    environment = {"FIREFLY_PLUGINS_AUTH_0_BASIC_PASSWORDFILE": "others"}
    settings = read(folder, PLUGINS + USERS + SSO + NAMESPACES, environment)
    assert settings.access.authenticators[0].how == PasswordSettings(folder / "others")


BASIC = "  - name: users\n    type: basic\n    basic:\n      passwordfile: {}\n"
JWT = "  - name: sso\n    type: jwt\n    jwt:\n{}    grants:\n{}"
FINE = "      issuer: i\n      audience: a\n      jwksFile: keys.json\n"
GRANT = "    - {users: [a], role: reader}\n"


@pytest.mark.parametrize(
    ("plugins", "line", "text"),
    [
        ("  - {name: x, type: ldap}\n", 5, "FF00168: Unknown auth plugin: 'ldap'"),
        (BASIC.format("absent"), 8, "No such file or directory"),
        (BASIC.format("plain"), 8, "line 1 is not user:hash with a bcrypt hash"),
        (BASIC.format("empty"), 8, "it has no user"),
        (BASIC.format("binary"), 8, "it is no text in UTF-8"),
        (BASIC.format("''"), 8, "plugins.auth[0].basic.passwordfile': is required"),
        ("  - {name: users, type: basic}\n", 5, "passwordfile': is required"),
        (
            BASIC.format("users") + "    grants:\n    - {groups: [g], role: reader}\n",
            10,
            "have none",
        ),
        (JWT.format(FINE.replace("issuer", "issuers"), GRANT), 8, "FF19304: Unknown setting"),
        (JWT.format(FINE.replace("      issuer: i\n", ""), GRANT), 8, "issuer': is required"),
        (JWT.format(FINE.replace("      audience: a\n", ""), GRANT), 8, "audience': is required"),
        (JWT.format(FINE + "      jwksUrl: https://x\n", GRANT), 11, "one of jwksUrl and jwksFile"),
        (JWT.format(FINE.replace("keys.json", "users"), GRANT), 10, "it is no JSON"),
        (
            JWT.format(FINE + "      algorithms: [RS256, HS256]\n", GRANT),
            11,
            "'HS256' is not one of",
        ),
        (JWT.format(FINE + "      algorithms: none\n", GRANT), 11, "'none' is not one of"),
        (JWT.format(FINE + "      leeway: 1h\n", GRANT), 11, "must be between 0s and 600s"),
        (JWT.format(FINE + "      refresh: 1s\n", GRANT), 11, "must be between 10s"),
        (JWT.format(FINE + "      tls: {caFile: absent}\n", GRANT), 11, "No such file"),
        (JWT.format(FINE + "      claims: {name: x}\n", GRANT), 11, "FF19304"),
        *(
            (JWT.format(FINE.replace("jwksFile: keys.json", f"jwksUrl: '{url}'"), GRANT), 10, why)
            for url, why in (
                ("http://login.example.org/keys", "is no https URL"),
                ("https://u:p@login.example.org", "must hold no user or password"),
                ("ftp://127.0.0.1/keys", "is no https URL"),
                ("https://[::1", "Invalid IPv6"),
                ("keys", "is no https URL"),
            )
        ),
        ("  - name: sso\n    type: jwt\n    jwt:\n" + FINE, 5, "grants': is required"),
        (JWT.format(FINE, "    - {users: [a], role: root}\n"), 12, "'root' is not reader"),
        (JWT.format(FINE, "    - {users: [a]}\n"), 12, "'' is not reader"),
        (JWT.format(FINE, "    - {role: reader}\n"), 12, "name users or groups"),
        (JWT.format(FINE, "    - {users: [[a]], role: reader}\n"), 12, "must be a text"),
        (
            JWT.format(FINE, "    - {users: a, role: reader, namespaces: x}\n"),
            12,
            "no namespace 'x'",
        ),
        (
            JWT.format(FINE, "    - {users: a, role: reader, author: b}\n"),
            12,
            "goes with the role writer",
        ),
        (JWT.format(FINE, "    - {users: a, role: writer, key: b}\n"), 12, "goes with an author"),
        (JWT.format(FINE, "    - {users: a, role: writer, roles: b}\n"), 12, "FF19304"),
    ],
)
def test_mistakes_are_told_with_their_line(
    folder: Path, plugins: str, line: int, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(folder, PLUGINS + plugins + NAMESPACES.replace(", sso", ""))
    told = [(problem.line, problem.text) for problem in caught.value.problems]
    assert any(at == line and text in each for at, each in told), told


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("http: {auth: {type: basic}}\n", "http.auth.basic.passwordfile': is required"),
        ("http: {auth: {basic: {passwordfile: users}}}\n", "http.auth.type': is required"),
        ("http: {auth: {type: ldap}}\n", "FF00168"),
        ("http: {auth: {type: basic, basic: {passwordfile: users}, grant: []}}\n", "FF19304"),
        ("spi: {auth: {type: jwt, jwt: {}}}\n", "spi.auth.jwt.issuer': is required"),
    ],
)
def test_mistakes_of_listeners(folder: Path, section: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        access(folder, SSO, section)
    assert any(text in problem.text and problem.line > 20 for problem in caught.value.problems)


def test_the_documented_configuration_loads(folder: Path) -> None:
    text = (DOCS / "security.md").read_text()
    whole, listeners = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (folder / "users.htpasswd").write_text(password_file(root="r"))
    settings = read(folder, whole + listeners)
    assert settings.access.namespaces == {
        "default": ("users", "sso"),
        "test": ("sso",),
        "public": (),
    }
    assert [each.name for each in settings.access.all] == ["users", "sso", "http.auth", "spi.auth"]
    assert not settings.warnings


# TLS of the gRPC endpoint.


def test_tls_of_the_endpoint(folder: Path) -> None:
    made = self_signed(folder, "own")
    base = PLUGINS.replace("  auth:\n", "") + NAMESPACES.replace(", sso", "")
    plain = read(folder, base).listen
    assert plain.tls is None
    files = f"certFile: {made.certificate.name}, keyFile: {made.key.name}"
    found = read(folder, base + f"grpc: {{tls: {{{files}}}}}\n").listen
    assert found.tls == TlsFiles(made.certificate, made.key)
    both = f"{files}, caFile: {made.certificate.name}, clientAuth: true"
    found = read(folder, base + f"grpc: {{tls: {{{both}}}}}\n").listen
    assert found.tls == TlsFiles(made.certificate, made.key, made.certificate, require_client=True)
    off = read(folder, base + f"grpc: {{tls: {{enabled: false, {files}}}}}\n").listen
    assert off.tls is None
    for wrong, text in (
        (f"certFile: {made.certificate.name}", "grpc.tls.keyFile': is required"),
        ("enabled: true", "grpc.tls.certFile': is required"),
        (f"{files}, clientAuth: true", "grpc.tls.caFile': is required"),
        (f"certFile: {made.certificate.name}, keyFile: users", "FF19214"),
        ("certFile: absent, keyFile: absent", "FF19214"),
        (f"{files}, caFile: users", "FF19214"),
        (f"{files}, ca: users", "FF19304"),
    ):
        with pytest.raises(ConfigError) as caught:
            read(folder, base + f"grpc: {{tls: {{{wrong}}}}}\n")
        assert any(text in each.text for each in caught.value.problems), wrong


@pytest.mark.parametrize(
    ("address", "warns"),
    [
        ("unix:core.sock", False),
        ("127.0.0.1:5002", False),
        ("0.0.0.0:5002", True),
        ("node.example.org:5002", True),
    ],
)
def test_credentials_in_plain_text_are_warned_of(folder: Path, address: str, warns: bool) -> None:
    text = PLUGINS + USERS + SSO + NAMESPACES + f"grpc: {{address: '{address}'}}\n"
    told = [warning.text for warning in read(folder, text).warnings]
    assert any("plain text" in each for each in told) == warns
