"""Who may use the node: `plugins.auth[]`, `http.auth`, `spi.auth`, and what they grant.

    plugins:
      auth:
        - name: users                     # FireFly's own: an htpasswd file with bcrypt hashes
          type: basic
          basic: { passwordfile: users.htpasswd }
        - name: sso
          type: jwt
          jwt: { issuer: "https://login.example.org", audience: photinus, jwksUrl: "https://…" }
          grants:
            - { groups: [operations], role: operator }
            - { users: [shop], namespaces: [default], role: writer, author: acme, key: "0x…" }

A namespace uses the plugins it names under `plugins`, or all when it names none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from photinus_core.access.keys import SET_BYTES_MAX, read_keys
from photinus_core.access.passwords import FILE_BYTES_MAX, read_users
from photinus_core.access.roles import ALL, Binding, Grant, Role, as_did
from photinus_core.access.settings import (
    ALGORITHMS,
    AccessSettings,
    AuthenticatorSettings,
    PasswordSettings,
    TokenSettings,
)
from photinus_core.app.config.tree import Node
from photinus_core.model.errors import Rejected

KINDS: Final = ("basic", "jwt")
REFRESH_MIN_S: Final = 10.0
REFRESH_MAX_S: Final = 86_400.0
LEEWAY_MAX_S: Final = 600.0
KEEP_MAX_S: Final = 30 * 86_400.0
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def read_access(root: Node, default_namespace: str) -> AccessSettings:
    """Reads all of it; problems go to the report. Names of plugins are checked with the namespaces."""
    entries = _items(root.get("namespaces"), "predefined")
    known = {entry.text("name") for entry in entries}
    plugins = [
        made
        for entry in _items(root.get("plugins"), "auth")
        if (made := read_authenticator(entry, entry.text("name"), known)) is not None
    ]
    names = [each.name for each in plugins]
    return AccessSettings(
        default_namespace,
        tuple(plugins),
        {entry.text("name"): _used_by(entry, names) for entry in entries},
        http=_of_section(root.section("http"), known),
        spi=_of_section(root.section("spi"), known),
    )


def _used_by(entry: Node, names: list[str]) -> tuple[str, ...]:
    if entry.get("plugins") is None:
        return tuple(names)
    named = _items(entry, "plugins")
    return tuple(text for each in named if (text := each.scalar or "") in names)


def _items(section: Node | None, key: str) -> list[Node]:
    """The items of a list that was read, and complained about, elsewhere."""
    found = None if section is None else section.get(key)
    return [] if found is None else found.items or []


def _of_section(section: Node, known: Collection[str]) -> AuthenticatorSettings | None:
    if section.get("auth") is None:
        return None
    auth = section.section("auth")
    if not auth.text("type"):
        if auth.members:
            _wrong(auth, "type", f"is required: {' or '.join(KINDS)}")
        return None
    return read_authenticator(auth, auth.path, known)


def read_authenticator(
    entry: Node, name: str, namespaces: Collection[str]
) -> AuthenticatorSettings | None:
    """Reads one way to prove oneself: `type`, the section called as it, and `grants`.

    Args:
        entry: The plugin, or the `auth` section of a listener.
        name: What it is called in errors.
        namespaces: Those that grants may name.

    Returns:
        None when it makes no sense; problems are in the report.
    """
    kind = entry.text("type")
    how: PasswordSettings | TokenSettings | None
    match kind:
        case "basic":
            how = _passwords(entry.section("basic"))
        case "jwt":
            how = _tokens(entry.section("jwt"))
            if entry.get("grants") is None:
                # Whoever the issuer knows would be an operator otherwise.
                _wrong(entry, "grants", "is required: say which subjects and groups may do what")
        case _:
            place = entry.get("type") or entry
            place.report.add(place, Rejected("FF00168", kind))
            entry.plain()
            return None
    granted = entry.get("grants") is not None
    grants = tuple(_grant(each, kind, namespaces) for each in entry.list("grants"))
    entry.check_unknown()
    return None if how is None else AuthenticatorSettings(name, how, grants if granted else None)


# How one proves oneself.


def _passwords(section: Node) -> PasswordSettings | None:
    named = section.text("passwordfile")
    if not named:
        _wrong(section, "passwordfile", "is required")
        return None
    path = _readable(section, "passwordfile", FILE_BYTES_MAX, _check_users)
    section.check_unknown()
    return PasswordSettings(path)


def _check_users(text: str) -> str:
    users, wrong = read_users(text)
    if wrong:
        return f"line {wrong[0].line} {wrong[0].text}"
    return "" if users else "it has no user"


def _tokens(section: Node) -> TokenSettings | None:
    before = len(section.report.problems)
    usual = TokenSettings("", ())
    claims, tls = section.section("claims"), section.section("tls")
    file = None
    if section.get("jwksFile") is not None:
        file = _readable(section, "jwksFile", SET_BYTES_MAX, _check_keys)
    made = TokenSettings(
        issuer=section.text("issuer"),
        audiences=_texts(section, "audience"),
        jwks_url=section.text("jwksUrl"),
        jwks_file=file,
        jwks_ca=_readable(tls, "caFile", FILE_BYTES_MAX, lambda _: "") if tls.members else None,
        algorithms=_texts(section, "algorithms") or usual.algorithms,
        refresh_s=_duration_s(section, "refresh", usual.refresh_s, REFRESH_MIN_S, REFRESH_MAX_S),
        keep_s=_duration_s(section, "keepFor", usual.keep_s, 0, KEEP_MAX_S),
        leeway_s=_duration_s(section, "leeway", usual.leeway_s, 0, LEEWAY_MAX_S),
        subject=claims.text("subject", usual.subject),
        groups=claims.text("groups", usual.groups),
    )
    for key, value in (("issuer", made.issuer), ("audience", made.audiences)):
        if not value:
            _wrong(section, key, "is required")
    if bool(made.jwks_url) == (section.get("jwksFile") is not None):
        _wrong(section, "jwksUrl", "give one of jwksUrl and jwksFile")
    if made.jwks_url:
        _check_url(section, made.jwks_url)
    for algorithm in made.algorithms:
        if algorithm not in ALGORITHMS:
            _wrong(
                section,
                "algorithms",
                f"'{algorithm}' is not one of {', '.join(ALGORITHMS)}: tokens are verified with"
                " public keys",
            )
    for part in (claims, tls, section):
        part.check_unknown()
    return made if len(section.report.problems) == before else None


def _check_keys(text: str) -> str:
    try:
        read_keys(text)
    except ValueError as failure:
        return str(failure)
    return ""


def _check_url(section: Node, text: str) -> None:
    try:
        url = urlsplit(text)
        host, _ = url.hostname or "", url.port
    except ValueError as failure:
        _wrong(section, "jwksUrl", str(failure))
        return
    if url.username or url.password:
        _wrong(section, "jwksUrl", "must hold no user or password")
    elif not host or not (url.scheme == "https" or (url.scheme == "http" and host in LOOPBACK)):
        _wrong(section, "jwksUrl", f"'{text}' is no https URL (plain http goes to this host only)")


# What that is good for.


def _grant(entry: Node, kind: str, namespaces: Collection[str]) -> Grant:
    text = entry.text("role").lower()
    role = next((each for each in Role if each.name.lower() == text), None)
    if role is None:
        _wrong(entry, "role", f"'{text}' is not reader, writer or operator")
    where = _texts(entry, "namespaces") or (ALL,)
    for name in where:
        if name != ALL and name not in namespaces:
            _wrong(entry, "namespaces", f"there is no namespace '{name}'")
    users, groups = _texts(entry, "users"), _texts(entry, "groups")
    if not users and not groups:
        _wrong(entry, "users", f"name users or groups, or '{ALL}' for all that are proven")
    if groups and kind == "basic":
        _wrong(entry, "groups", "users of a password file have none")
    made = Grant(role or Role.READER, users, groups, where, _binding(entry, role))
    entry.check_unknown()
    return made


def _binding(entry: Node, role: Role | None) -> Binding | None:
    author, key = entry.text("author"), entry.text("key")
    if not author:
        if key:
            _wrong(entry, "key", "goes with an author")
        return None
    if role is not Role.WRITER:
        _wrong(entry, "author", "goes with the role writer")
    return Binding(as_did(author), key)


# Helpers.


def _readable(section: Node, key: str, bytes_max: int, problem: Callable[[str], str]) -> Path:
    """The path of a file that is there and in order; a relative one begins at the configuration."""
    path = Path(section.report.file).parent / section.text(key)
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
        why = problem(content.decode()) if len(content) <= bytes_max else "it is too large"
    except OSError as failure:
        why = failure.strerror or str(failure)
    except UnicodeDecodeError:
        why = "it is no text in UTF-8"
    if why:
        _wrong(section, key, f"{path}: {why}")
    return path.absolute()


def _texts(section: Node, key: str) -> tuple[str, ...]:
    """A list of texts, or one."""
    found = section.get(key)
    if found is None:
        return ()
    items = [found] if found.items is None else found.items
    for item in items:
        if not item.scalar:
            item.report.add(item, Rejected("FF19305", key, "must be a text, or a list of texts"))
    return tuple(item.scalar or "" for item in items)


def _duration_s(section: Node, key: str, usual: float, low: float, high: float) -> float:
    found = section.duration_s(key, usual)
    if not low <= found <= high:
        _wrong(section, key, f"must be between {low:g}s and {high:g}s")
        return usual
    return found


def _wrong(section: Node, key: str, text: str) -> None:
    place = section.get(key) or section
    where = f"{section.path}.{key}" if section.path else key
    place.report.add(place, Rejected("FF19305", where, text))
