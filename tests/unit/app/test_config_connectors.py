"""Goal: how a connector is reached is read as written, and what cannot work is told with its line.

Method: the `connector` section of one plugin in an otherwise good file, beside real certificates.
"""

from pathlib import Path

import pytest
from photinus_core.app.config import ConfigError, ConnectorSettings, load_text
from photinus_core.host import WhenAway
from photinus_core.sequencing.connector_life import LIMITS, SECOND_NS, LifeLimits

from tests.support.certificates import self_signed

FILE = """\
{connectors}
plugins:
  database:
    - {{ name: database0, type: sqlite3, sqlite3: {{ url: core.db }} }}
  blockchain:
    - name: ledger
      type: ethereum
      ethereum: {{}}
      {connector}
namespaces:
  predefined:
    - name: default
"""
LINE = 9
TLS = "tls: { caFile: core.pem, certFile: core.pem, keyFile: core-key.pem"


def read(folder: Path, connector: str, connectors: str = "") -> ConnectorSettings | None:
    text = FILE.format(connector=connector, connectors=connectors)
    settings = load_text(text, str(folder / "photinus.yaml"), {})
    return settings.plugin("ledger").connector


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("core", "other"):
        self_signed(tmp_path, name)
    return tmp_path


def test_certificates_are_found_from_the_configurations_folder(folder: Path) -> None:
    address = "dns:///ledger.acme.example:5310"
    found = read(
        folder, f'connector: {{ address: "{address}", {TLS}, serverName: ledger.internal }} }}'
    )
    assert found is not None
    assert found.tls is not None
    assert found.address == address
    assert (found.tls.ca, found.tls.key) == (folder / "core.pem", folder / "core-key.pem")
    assert found.tls.server_name == "ledger.internal"


def test_patience_and_policy(folder: Path) -> None:
    found = read(
        folder,
        "connector: { launch: x, whenAway: Fail, heartbeat: { interval: 1s, timeout: 5s },"
        " restarts: { max: 2, window: 10s, coolDown: 30s } }",
    )
    assert found is not None
    assert found.when_away is WhenAway.FAIL
    assert found.limits == LifeLimits(SECOND_NS, 5 * SECOND_NS, 2, 10 * SECOND_NS, 30 * SECOND_NS)
    usual = read(folder, "connector: { launch: x }")
    assert usual is not None
    assert (usual.limits, usual.when_away) == (None, WhenAway.QUEUE)
    patient = read(folder, "connector: { launch: x, heartbeat: { interval: 0s } }")
    assert patient is not None
    assert patient.limits is not None
    assert patient.limits.ping_every_ns == 0
    assert patient.limits.silence_max_ns == LIMITS.silence_max_ns


def test_a_plugin_is_discovered_by_its_name_or_type(folder: Path) -> None:
    watched = "connectors: { directory: run/connectors }"
    assert read(folder, "", watched) == ConnectorSettings(discover=("ledger", "ethereum"))
    named = read(folder, "connector: { discover: mine }", watched)
    assert named == ConnectorSettings(discover=("mine",))
    assert read(folder, "connector: { launch: x }", watched) == ConnectorSettings(launch=("x",))
    assert read(folder, "") is None, "no directory is watched"


@pytest.mark.parametrize(
    ("connector", "code", "word"),
    [
        ("{ address: 'unix:x', launch: y }", "FF19305", "one of address, launch and discover"),
        ("{ discover: x }", "FF19305", "connectors.directory"),
        ("{ address: 'ledger:5310' }", "FF19212", "needs tls"),
        ("{ address: 'ledger:5310', insecure: true }", "FF19212", "needs tls"),
        ("{ address: '127.0.0.1:5310' }", "FF19212", "insecure: true"),
        ("{ address: 'ledger:99999' }", "FF19212", "dns:///host:port"),
        (f"{{ address: 'unix:{'x' * 100}' }}", "FF19209", "longer than"),
        (f"{{ address: 'unix:x', {TLS} }} }}", "FF19212", "no tls"),
        (f"{{ address: 'a:1', insecure: true, {TLS} }} }}", "FF19212", "either tls or"),
        (f"{{ launch: x, {TLS} }} }}", "FF19305", "by themselves"),
        ("{ address: 'a:1', tls: { certFile: core.pem } }", "FF19305", "needs caFile, keyFile"),
        ("{ address: 'a:1', tls: {} }", "FF19305", "needs caFile, certFile, keyFile"),
        (f"{{ address: 'a:1', {TLS}, cert: x }} }}", "FF19304", "tls.cert"),
        (
            "{ address: 'a:1', tls: { caFile: no.pem, certFile: core.pem, keyFile: core-key.pem } }",
            "FF19214",
            "no.pem' cannot be used for TLS: No such file",
        ),
        (
            (
                "{ address: 'a:1', tls: { caFile: core-key.pem, certFile: core.pem,"
                " keyFile: core-key.pem } }"
            ),
            "FF19305",
            "holds no certificate",
        ),
        (
            (
                "{ address: 'a:1', tls: { caFile: core.pem, certFile: core.pem,"
                " keyFile: other-key.pem } }"
            ),
            "FF19305",
            "no PEM certificate with the key",
        ),
        ("{ launch: x, whenAway: wait }", "FF19305", "neither queue nor fail"),
        ("{ launch: x, heartbeat: { timeout: 0s } }", "FF19305", "timeout"),
        ("{ launch: x, restarts: { max: -1 } }", "FF19305", "max"),
        ("{ launch: x, restarts: { often: 1 } }", "FF19304", "often"),
    ],
)
def test_what_cannot_work_is_told_with_its_line(
    folder: Path, connector: str, code: str, word: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(folder, f"connector: {connector}")
    found = caught.value.problems
    assert [p.line for p in found] == [LINE], caught.value
    assert found[0].text.startswith(f"{code}: ")
    assert word in found[0].text
