"""The `database` plugins: FireFly's keys for PostgreSQL, our timeouts, and what is wrong with a URL.

Method: small configurations read as a file would be; problems are looked at with their lines.
"""

import pytest
from photinus_core.app.config import ConfigError, NodeSettings, load_text
from photinus_core.store import PostgresSettings

URL = "postgres://photinus:geheim@db1:5432,db2:5433/core?sslmode=disable"


def configuration(*lines: str, url: str = URL) -> str:
    text = f"""
namespaces:
  default: alpha
  predefined:
    - name: alpha
      plugins: [database0]
plugins:
  database:
    - name: database0
      type: postgres
      postgres:
        url: {url}
"""
    return text + "".join(f"        {line}\n" for line in lines)


def read(*lines: str, url: str = URL) -> NodeSettings:
    return load_text(configuration(*lines, url=url), "node.yaml", {})


def settings_of(node: NodeSettings) -> PostgresSettings:
    found = node.plugin("database0").postgres
    assert found is not None
    return found


def problems(*lines: str, url: str = URL) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(*lines, url=url)
    return [str(problem) for problem in raised.value.problems]


def test_a_url_is_enough() -> None:
    assert settings_of(read()) == PostgresSettings(URL)


def test_firefly_keys_and_ours_are_read() -> None:
    node = read(
        "maxConns: 12",
        "maxConnIdleTime: 2m",
        "maxConnLifetime: 1h",
        "maxIdleConns: 5",
        "migrations: { auto: false, directory: ./db/migrations/postgres }",
        "connectTimeout: 3s",
        "startTimeout: 0s",
        "readTimeout: 4s",
        "writeTimeout: 5s",
        "idleInTransactionTimeout: 1500ms",
        "connectionWait: 6s",
        "pollInterval: 7s",
    )
    assert settings_of(node) == PostgresSettings(
        URL,
        connections_max=12,
        connection_idle_s=120.0,
        connection_lifetime_s=3600.0,
        connect_timeout_s=3.0,
        start_timeout_s=0.0,
        read_timeout_s=4.0,
        write_timeout_s=5.0,
        idle_in_transaction_s=1.5,
        wait_s=6.0,
        poll_s=7.0,
    )
    warned = " ".join(warning.path for warning in node.warnings)
    assert all(key in warned for key in ("maxIdleConns", "auto", "directory"))


def test_fireflys_own_url_is_taken() -> None:
    """Its stacks name no database: then it is called like the user."""
    url = "postgres://postgres:f1refly@postgres_0:5432?sslmode=disable"
    assert settings_of(read(url=url)).url == url


def test_connections_are_shared_out() -> None:
    for most in (5, 6, 20, 51):
        settings = PostgresSettings(URL, connections_max=most)
        assert settings.writers_max >= 2
        assert settings.readers_max >= 2
        assert settings.writers_max + settings.readers_max + 1 == most


def test_a_place_has_no_password() -> None:
    assert PostgresSettings(URL).place == "photinus@db1:5432,db2:5433/core"
    assert PostgresSettings("postgres://h/d").place == "h/d"
    assert "geheim" not in repr(read().plugin("database0").config)
    assert "geheim" not in repr(PostgresSettings(URL))


@pytest.mark.parametrize(
    ("url", "each"),
    [
        ("postgres://u:a,b@h/d?x=1", ["postgres://u:a,b@h/d?x=1"]),
        ("postgres://u:p@a:1,b/d", ["postgres://u:p@a:1/d", "postgres://u:p@b/d"]),
        ("postgres://[::1]:5,[::2]/d", ["postgres://[::1]:5/d", "postgres://[::2]/d"]),
        (
            "postgres:///d?host=a,b&port=1,2&connect_timeout=3",
            ["postgres:/d?host=a&port=1", "postgres:/d?host=b&port=2"],
        ),
        (
            "postgres:///d?host=a,b&port=7",
            ["postgres:/d?host=a&port=7", "postgres:/d?host=b&port=7"],
        ),
        ("postgres:///d?host=a,b", ["postgres:/d?host=a", "postgres:/d?host=b"]),
        ("postgres:///d?host=/run/pg", ["postgres:/d?host=%2Frun%2Fpg"]),
    ],
)
def test_each_host_has_a_url(url: str, each: list[str]) -> None:
    assert list(PostgresSettings(url).library_urls()) == each


def test_several_hosts_are_seen() -> None:
    assert PostgresSettings(URL).has_several_hosts
    assert PostgresSettings("postgres:///d?host=a,b").has_several_hosts
    assert not PostgresSettings("postgres://u:a,b@h/d").has_several_hosts
    assert PostgresSettings("postgres://h/d?target_session_attrs=any").names_session_attributes


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://h/d", "it must begin with postgres://"),
        ("postgres://u:geheim@/d", "it names no host"),
        ("postgres://u:geheim@h:99999/d", "'99999' is no port"),
        ("'postgres://u:geheim@[::1/d'", "it cannot be read"),
        ('""', "'postgres.url': is required"),
    ],
)
def test_a_wrong_url_is_said_with_its_line(url: str, said: str) -> None:
    (problem,) = problems(url=url)
    assert said in problem
    assert f"line {9 if 'required' in said else 12}:" in problem
    assert "geheim" not in problem


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("maxConns: 4", "4 is not between 5 and 1000"),
        ("maxConns: many", "'many' is not a whole number"),
        ("writeTimeout: 0s", "must be at least 0.1 s"),
        ("pollInterval: soon", "'soon' is not a duration"),
        ("maxConnections: 5", "FF19304"),
    ],
)
def test_wrong_settings_are_said_with_their_line(line: str, said: str) -> None:
    (problem,) = problems(line)
    assert said in problem
    assert "line 13" in problem
