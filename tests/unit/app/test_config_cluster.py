"""How replicas elect their leaders is read whole, and every mistake in it gives its code at its line.

Method: a small valid file and a table of edits, as for the rest of the configuration.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from photinus_core.app.config import ConfigError, NodeSettings, load_text
from photinus_core.app.config.cluster import fingerprint, session_min_s
from photinus_core.app.electing import describe_replica
from photinus_core.cluster import TlsSettings

GOOD = """\
grpc:
  address: 127.0.0.1:5002
cluster:
  replica: alpha-1
  address: alpha.example.org:5002
  zookeeper:
    hosts: zk1:2181, zk2:2182,[::1]:2183
    chroot: /photinus/alpha
    sessionTimeout: 6s
    handOverAfter: 1m
    auth:
      user: photinus
      password: secret
    tls:
      caFile: ca.pem
      certFile: core.pem
      keyFile: core.key
plugins:
  database:
  - name: database0
    type: postgres
    postgres:
      url: postgres://core@localhost/core
      idleInTransactionTimeout: 3s
  blockchain:
  - name: blockchain0
    type: ethereum
    connector: {address: "127.0.0.1:6000", insecure: true}
    ethereum: {chainId: 1}
namespaces:
  default: alpha
  predefined:
  - name: alpha
    plugins: [database0, blockchain0]
"""

POSTGRES = """\
    type: postgres
    postgres:
      url: postgres://core@localhost/core
      idleInTransactionTimeout: 3s
"""

# what is replaced, by what ("@" marks the line of the error), code, a word of the text
CASES = {
    "no hosts": ("hosts: zk1:2181, zk2:2182,[::1]:2183", "hosts: ''@", "FF19305", "hosts"),
    "a bad port": ("zk2:2182,[::1]:2183", "zk2:99999@", "FF19305", "zk2:99999"),
    "a bad host": ("zk2:2182,[::1]:2183", "zk/2@", "FF19305", "zk/2"),
    "a chroot without a slash": ("/photinus/alpha", "photinus@", "FF19305", "photinus"),
    "a chroot with an end": ("/photinus/alpha", "/photinus/@", "FF19305", "/photinus/"),
    "the root as chroot": ("/photinus/alpha", "/@", "FF19305", "'/'"),
    "a session too short": ("sessionTimeout: 6s", "sessionTimeout: 1s@", "FF19155", "of 1 s"),
    "a session shorter than the database waits": (
        "sessionTimeout: 6s",
        "sessionTimeout: 2900ms@",
        "FF19155",
        "between 3 s",
    ),
    "a session too long": ("sessionTimeout: 6s", "sessionTimeout: 5m@", "FF19155", "60 s"),
    "no wait": ("handOverAfter: 1m", "handOverAfter: 0s@", "FF19305", "handOverAfter"),
    "a user alone": ("      password: secret\n", "", "FF19305", "auth"),
    "a user with a colon": ("user: photinus", "user: a:b", "FF19305", "auth"),
    "a certificate alone": ("      keyFile: core.key\n", "", "FF19305", "certFile"),
    "an unknown key": ("chroot:", "root@:", "FF19304", "root"),
    "a bad name": ("replica: alpha-1", "replica: a b@", "FF19305", "replica"),
    "SQLite": (
        POSTGRES,
        "    type: sqlite3\n    sqlite3: {url: a.db}\n",
        "FF19159",
        "database0",
    ),
    "a launched connector": (
        'address: "127.0.0.1:6000", insecure: true',
        "launch: [photinus-ethereum]",
        "FF19210",
        "blockchain0",
    ),
}


def read(text: str) -> NodeSettings:
    return load_text(text, "core.yaml", {})


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_gives_its_code_at_its_line(case: str) -> None:
    old, new, code, word = CASES[case]
    assert old in GOOD
    text = GOOD.replace(old, new)
    with pytest.raises(ConfigError) as raised:
        read(re.sub(r"@(:|\n)", r"\1", text))
    problems = [p for p in raised.value.problems if code in p.text]
    assert problems, str(raised.value)
    assert word in str(problems[0])
    marked = [i for i, line in enumerate(text.splitlines(), 1) if re.search("@(:|$)", line)]
    assert not marked or problems[0].line == marked[0]
    assert "secret" not in str(raised.value)


def test_a_good_section_is_read_whole() -> None:
    cluster = read(GOOD).cluster
    ensemble = cluster.ensemble
    assert ensemble is not None
    assert (cluster.replica, cluster.address) == ("alpha-1", "alpha.example.org:5002")
    assert cluster.hand_over_after_s == 60
    assert ensemble.hosts == "zk1:2181,zk2:2182,[::1]:2183"
    assert (ensemble.chroot, ensemble.session_timeout_s) == ("/photinus/alpha", 6.0)
    assert ensemble.auth == "photinus:secret"
    assert ensemble.tls == TlsSettings(Path("ca.pem"), Path("core.pem"), Path("core.key"))
    assert "secret" not in repr(cluster)


def test_hosts_may_be_a_list_and_the_rest_has_defaults() -> None:
    head, tail = GOOD[: GOOD.index("cluster:")], GOOD[GOOD.index("plugins:") :]
    settings = read(f"{head}cluster:\n  zookeeper:\n    hosts: [zk1, zk2:2182]\n{tail}")
    ensemble = settings.cluster.ensemble
    assert ensemble is not None
    assert (ensemble.hosts, ensemble.chroot, ensemble.auth) == ("zk1,zk2:2182", "/photinus", "")
    assert ensemble.tls is None
    assert session_min_s(settings.plugins) <= ensemble.session_timeout_s
    assert read(head + tail).cluster.ensemble is None


def test_tls_needs_no_certificate_of_ones_own() -> None:
    start, end = GOOD.index("      caFile"), GOOD.index("plugins:")
    text = GOOD[:start] + "      enabled: true\n      insecureSkipHostVerify: true\n" + GOOD[end:]
    ensemble = read(text).cluster.ensemble
    assert ensemble is not None
    assert ensemble.tls == TlsSettings(verify_host=False)


def digest(settings: NodeSettings) -> str:
    return fingerprint(settings.namespaces, settings.plugins, str(settings.default_namespace))


def test_the_fingerprint_is_of_what_must_be_alike() -> None:
    one = digest(read(GOOD))
    for old, new in (
        ("alpha-1", "alpha-2"),
        ("127.0.0.1:5002", "127.0.0.1:5003"),
        ("127.0.0.1:6000", "unix:elsewhere.sock"),
        ("core@localhost", "core@db.example.org"),
        ("sessionTimeout: 6s", "sessionTimeout: 5s"),
    ):
        assert digest(read(GOOD.replace(old, new))) == one, new
    for old, new in (
        ("chainId: 1", "chainId: 2"),
        ("  - name: alpha\n", "  - name: alpha\n    description: other\n"),
        ("  - name: alpha\n", "  - name: beta\n    plugins: [database0]\n  - name: alpha\n"),
    ):
        assert digest(read(GOOD.replace(old, new))) != one, new


def test_a_replica_says_where_it_can_be_reached_and_keeps_its_name() -> None:
    settings = read(GOOD)
    said = describe_replica(settings, "127.0.0.1:5002", "1.0")
    assert (said.name, said.address, said.version) == ("alpha-1", "alpha.example.org:5002", "1.0")
    assert said.fingerprint == digest(settings)
    nameless = replace(settings, cluster=replace(settings.cluster, replica="", address=""))
    names = []
    for address in (
        "0.0.0.0:5002",
        "0.0.0.0:5003",
        "unix:/run/a/core.sock",
        "unix:/run/b/core.sock",
    ):
        made = describe_replica(nameless, address, "1.0")
        again = describe_replica(nameless, address, "1.0")
        assert replace(made, since=again.since) == again
        assert not made.address.startswith("0.0.0.0")
        names.append(made.name)
    assert len(set(names)) == len(names)
