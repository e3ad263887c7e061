"""How PostgreSQL is reached and what its sessions may cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from photinus_core.model.errors import Rejected

SCHEMES: Final = frozenset({"postgres", "postgresql"})
PORT_DEFAULT: Final = 5432
_OURS: Final = frozenset({"connect_timeout"})
"""Options of libpq's URLs that the library would take for settings of the server."""


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """Settings of one database.

    Attributes:
        url: `postgres://user:password@host:port,host2:port2/database?sslmode=…`. Of several hosts
            the first that takes writes is used.
        connections_max: Most connections of this replica, the listening one included.
        connection_idle_s: Unused ones are closed after this time.
        connection_lifetime_s: Older ones are replaced when unused; 0 keeps them.
        connect_timeout_s: Longest time to make one connection; of several hosts each gets its part.
        start_timeout_s: How long a start waits for a database that is away.
        read_timeout_s: Longest time a reading statement may take.
        write_timeout_s: Longest time a writing statement may take.
        idle_in_transaction_s: How long a transaction may stand still before the database ends it:
            what a frozen replica can hold up the others. Keep it below the session timeout of the
            election.
        wait_s: Longest wait for a free connection.
        poll_s: How often other replicas' commits are looked for in case a notification was lost.
    """

    url: str = field(repr=False)
    connections_max: int = 20
    connection_idle_s: float = 60.0
    connection_lifetime_s: float = 0.0
    connect_timeout_s: float = 5.0
    start_timeout_s: float = 10.0
    read_timeout_s: float = 10.0
    write_timeout_s: float = 10.0
    idle_in_transaction_s: float = 3.0
    wait_s: float = 30.0
    poll_s: float = 2.0

    @property
    def writers_max(self) -> int:
        """Most connections for transactions."""
        return max(2, (self.connections_max - 1) // 2)

    @property
    def readers_max(self) -> int:
        """Most connections for reading."""
        return max(2, self.connections_max - 1 - self.writers_max)

    @property
    def place(self) -> str:
        """Where it is, for people: user, hosts and database, without the password."""
        parts = _split(self.url)
        login, _, hosts = parts.netloc.rpartition("@")
        user = login.partition(":")[0]
        return f"{user}@{hosts}{parts.path}" if user else f"{hosts}{parts.path}"

    @property
    def has_several_hosts(self) -> bool:
        """Whether one of several servers is to be found."""
        return len(self.library_urls()) > 1

    @property
    def names_session_attributes(self) -> bool:
        """Whether the URL says itself which of several servers to take."""
        return "target_session_attrs" in dict(parse_qsl(_split(self.url).query))

    def library_url(self) -> str:
        """The URL as the library takes it."""
        parts = _split(self.url)
        options = [
            pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in _OURS
        ]
        return urlunsplit(parts._replace(query=urlencode(options)))

    def library_urls(self) -> tuple[str, ...]:
        """The same for each host alone, in their order."""
        parts = _split(self.library_url())
        login, at, hosts = parts.netloc.rpartition("@")
        if hosts:
            return tuple(
                urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(",")
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        named = options.get("host", "").split(",")
        ports = options.get("port", "").split(",")
        ports = ports if len(ports) == len(named) else ports[:1] * len(named)
        places = [
            {"host": host} | ({"port": port} if port else {})
            for host, port in zip(named, ports, strict=True)
        ]
        return tuple(
            urlunsplit(parts._replace(query=urlencode(options | place))) for place in places
        )


def check_url(url: str) -> str:
    """Checks the form of a URL, without connecting.

    Raises:
        Rejected: FF19130; its text never holds the password.
    """
    parts = _split(url)
    hosts = parts.netloc.rpartition("@")[2]
    options = dict(parse_qsl(parts.query))
    if parts.scheme not in SCHEMES:
        raise Rejected("FF19130", "it must begin with postgres://")
    if not hosts and not options.get("host"):
        raise Rejected("FF19130", "it names no host")
    for host in hosts.split(",") if hosts else ():
        _, colon, port = host.rpartition("]")[2].partition(":")
        if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            raise Rejected("FF19130", f"'{port}' is no port")
    return url


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as failure:
        raise Rejected("FF19130", "it cannot be read") from failure
